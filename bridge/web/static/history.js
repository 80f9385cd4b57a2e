// Calls that are over: what was said in them can be searched.

import { get, Refused } from './api.js'
import { h, put, span, when, who } from './dom.js'

const WAIT_MS = 250

export function show(main, given) {
  const field = (name, label, type = 'text') =>
    h(
      'label',
      {},
      h('span', {}, label),
      h('input', {
        name,
        type,
        value: given.get(name) ?? '',
        autocomplete: 'off',
        spellcheck: 'false',
      }),
    )
  const form = h(
    'form.search',
    { role: 'search', onsubmit: (e) => e.preventDefault(), oninput: () => soon() },
    field('text', 'Words that were said', 'search'),
    field('caller', 'Caller'),
    field('agent', 'Agent'),
    field('result', 'Ended as'),
  )
  const about = h('p.about', { role: 'status' })
  const rows = h('tbody')
  const table = h(
    'table.history',
    {},
    h(
      'thead',
      {},
      h(
        'tr',
        {},
        ['Began', 'Caller', 'Agent', 'Lasted', 'Ended as'].map((name) =>
          h('th', { scope: 'col' }, name),
        ),
      ),
    ),
    rows,
  )
  const more = h(
    'button.button',
    { type: 'button', hidden: true, onclick: () => load(true) },
    'Earlier calls',
  )
  main.replaceChildren(h('div.head', {}, h('h1', {}, 'History'), about), form, table, more)
  let [next, waiting, asked] = [null, 0, 0]

  const wanted = () =>
    new URLSearchParams([...new FormData(form)].filter(([, text]) => text.trim()))

  function soon() {
    clearTimeout(waiting)
    waiting = setTimeout(() => {
      history.replaceState(null, '', `#/history?${wanted()}`)
      load(false)
    }, WAIT_MS)
  }

  async function load(on) {
    const mine = (asked += 1)
    const query = wanted()
    if (on) query.set('cursor', next)
    try {
      const found = await search(query)
      if (mine !== asked) return
      if (!on) rows.replaceChildren()
      rows.append(...found.calls.map(line))
      next = found.next
      more.hidden = next === null || next === undefined
      table.hidden = rows.childElementCount === 0
      put(about, table.hidden ? 'No call was found.' : '')
    } catch (error) {
      put(about, error.message)
    }
  }

  load(false)
  return () => clearTimeout(waiting)
}

async function search(query) {
  try {
    return await get(`/v1/history?${query}`)
  } catch (error) {
    if (!(error instanceof Refused) || error.status !== 404) throw error
  }
  const before = query.get('cursor') // no archive: what Redis still holds
  const found = await get(`/v1/calls?limit=50${before ? `&before=${before}` : ''}`)
  const fits = (call) =>
    ['caller', 'agent', 'result'].every((name) =>
      call[name].toLowerCase().includes((query.get(name) ?? '').toLowerCase()),
    )
  return {
    calls: found.calls.filter((call) => call.state === 'ended' && fits(call)),
    next: found.next,
  }
}

function line(call) {
  const seconds = call.duration_s ?? (call.ended ?? call.started) - (call.answered ?? call.started)
  return h(
    'tr',
    {},
    h(
      'td',
      { 'data-label': 'Began' },
      h('a', { href: `#/call/${encodeURIComponent(call.id)}` }, when(call.started)),
    ),
    h('td', { 'data-label': 'Caller' }, who(call)),
    h('td', { 'data-label': 'Agent' }, call.agent),
    h('td.number', { 'data-label': 'Lasted' }, span(seconds)),
    h('td', { 'data-label': 'Ended as', title: call.reason }, call.result),
  )
}
