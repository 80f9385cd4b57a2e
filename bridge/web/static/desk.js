// What can be done with a call that goes on. What is refused is said in one line; what was done is
// seen by what the call tells then.

import { ask, Refused } from './api.js'
import { h, put } from './dom.js'

const SURE_MS = 4000 // so long a second press hangs up

const KEYS = { m: 'mute', p: 'record', s: 'say', t: 'transfer', h: 'hangup' }

// How the call is, by what its transcript tells last.
const lastOf = (lines, on, off) =>
  (lines ?? []).findLast((line) => line.role === 'event' && [on, off].includes(line.text))?.text ===
  on
export const isMuted = (lines) => lastOf(lines, 'agent muted', 'agent unmuted')
export const isPaused = (lines) => lastOf(lines, 'recording paused', 'recording goes on')

export function desk(id) {
  const path = `/v1/calls/${encodeURIComponent(id)}`
  const said = h('p.refused', { role: 'alert' })
  let [muted, paused, sure] = [false, false, 0]

  async function order(button, verb, body) {
    if (button.ariaDisabled) return false // the last press isn't answered yet
    button.ariaDisabled = 'true' // not `disabled`: it would lose the focus
    put(said, '')
    try {
      await ask(`${path}/${verb}`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify(body),
      })
      return true
    } catch (error) {
      put(said, error instanceof Refused ? error.message : 'The bridge can’t be reached.')
      return false
    } finally {
      button.ariaDisabled = null
    }
  }

  const button = (text, key, onclick, kind = '') =>
    h(
      `button.button${kind}`,
      { type: 'button', 'aria-keyshortcuts': key, title: `${text} (key ${key})`, onclick },
      text,
    )
  const mute = button('Mute agent', 'M', () => order(mute, 'mute', { on: !muted }))
  const record = button('Pause recording', 'P', () =>
    order(record, 'recording', { action: paused ? 'resume' : 'pause' }),
  )
  const say = button('Say …', 'S', () => open(saying, say))
  const transfer = button('Transfer …', 'T', () => open(sending, transfer))
  const hangup = button('Hang up', 'H', end, '.danger')

  // A second press within a moment does it: what is done can't be undone.
  function end() {
    clearTimeout(sure)
    if (hangup.dataset.sure) {
      calm()
      order(hangup, 'hangup', { reason: 'hung up in the dashboard' })
      return
    }
    hangup.dataset.sure = 'asked'
    put(hangup, 'Really hang up?')
    sure = setTimeout(calm, SURE_MS)
  }

  function calm() {
    clearTimeout(sure)
    delete hangup.dataset.sure
    put(hangup, 'Hang up')
  }

  function line(label, name, send, verb, most) {
    const input = h('input', { 'aria-label': label, placeholder: label, required: true, maxlength: most, autocomplete: 'off' })
    const go = h('button.button', {}, send)
    const form = h(
      'form.line',
      {
        hidden: true,
        async onsubmit(event) {
          event.preventDefault()
          if (await order(go, verb, { [name]: input.value.trim() })) shut(form)
          else input.focus()
        },
      },
      input,
      go,
    )
    return form
  }
  const saying = line('What the agent is to say', 'text', 'Say it', 'say', 1000)
  const sending = line('Extension, as the agent may transfer to', 'to', 'Transfer', 'transfer', 100)
  const forms = [
    [saying, say],
    [sending, transfer],
  ]

  function open(form, opener) {
    const was = form.hidden
    for (const [one, its] of forms) {
      one.hidden = !(one === form && was)
      its.setAttribute('aria-expanded', String(!one.hidden))
    }
    if (was) form.querySelector('input').focus()
    else opener.focus()
  }

  function shut(form) {
    form.reset()
    const [, opener] = forms.find(([one]) => one === form)
    if (!form.hidden) open(form, opener)
  }

  const buttons = { mute, record, say, transfer, hangup }
  function pressed(event) {
    if (event.key === 'Escape' && element.contains(event.target)) {
      for (const [form] of forms) if (!form.hidden) shut(form)
      calm()
    }
    if (event.target.matches('input, select, textarea') || event.ctrlKey || event.metaKey || event.altKey)
      return
    if (element.hidden || event.target.closest('#phone, dialog')) return
    const chosen = buttons[KEYS[event.key.toLowerCase()]]
    if (!chosen || chosen.hidden || event.repeat) return
    event.preventDefault()
    chosen.focus()
    chosen.click()
  }
  addEventListener('keydown', pressed)

  const element = h(
    'section.desk',
    { 'aria-label': 'What can be done' },
    h('div.buttons', {}, mute, record, say, transfer, hangup),
    saying,
    sending,
    said,
  )
  return {
    element,
    update(call, lines) {
      ;[muted, paused] = [isMuted(lines), isPaused(lines)]
      put(mute, muted ? 'Unmute agent' : 'Mute agent')
      mute.setAttribute('aria-pressed', String(muted))
      put(record, paused ? 'Resume recording' : 'Pause recording')
      record.setAttribute('aria-pressed', String(paused))
      record.hidden = !(call.recorded || call.recording_parts)
    },
    close() {
      clearTimeout(sure)
      removeEventListener('keydown', pressed)
    },
  }
}
