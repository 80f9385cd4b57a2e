// One call: its picture over time, its sound, its words, where the time of each turn went.

import { ask, get, Refused } from './api.js'
import { legend, row } from './bars.js'
import { event, h, put, quality, span, timeOfDay, when, who } from './dom.js'
import * as feed from './feed.js'
import { badges, meter, shortName } from './live.js'
import { marks, timeline } from './timeline.js'

const PEAKS_PER_S = 20
const WORDS_PER_S = 2.6 // to place a line whose beginning is not stored

export function show(main, id) {
  main.replaceChildren(h('p.about', {}, 'Reading the call …'))
  const path = `/v1/calls/${encodeURIComponent(id)}`
  let [closed, close] = [false, () => {}]
  async function load() {
    try {
      const call = await get(path)
      if (closed) return
      close()
      close = call.state === 'ended' ? await ended(main, call, path) : going(main, call, load)
      if (closed) close()
    } catch (error) {
      if (!closed) main.replaceChildren(h('div.empty', {}, h('h1', {}, 'No such call'), h('p', {}, error.message)))
    }
  }
  load()
  return () => {
    closed = true
    close()
  }
}

function facts(call) {
  const net = quality(call.audio)
  const told = [
    ['began', when(call.started)],
    ['lasted', call.ended ? span(call.ended - (call.answered ?? call.started)) : ''],
    ['ended', call.ended ? [call.result, call.reason].filter(Boolean).join(': ') : ''],
    ['dialled', call.dialed],
    ['engine', call.engine],
    ['codec', call.codec],
    ['line', net ? `${net.word}, opinion ${net.mos.toFixed(1)}, ${net.lost.toFixed(1)} % lost` : ''],
    ['worker', call.worker ? shortName(call.worker) : ''],
  ]
  return h('dl.facts', {}, told.filter(([, text]) => text).map(([name, text]) => h('div', {}, h('dt', {}, name), h('dd', {}, text))))
}

function heading(call, more = []) {
  return h('div.head', {},
    h('h1', {}, `${who(call)} ${call.direction === 'out' ? '←' : '→'} ${call.agent}`),
    h('span.state', { 'data-state': call.state }, call.state === 'ended' ? call.result || 'ended' : call.state),
    h('p.badges', {}, badges({ ...call, lines: call.transcript })), ...more)
}

// In progress ---------------------------------------------------------------------------------------

function going(main, call, again) {
  const caller = meter('Caller’s level', 'caller')
  const agent = meter('Agent’s level', 'agent')
  const time = h('time')
  const head = h('div')
  const words = h('ol.transcript', { 'aria-live': 'polite', 'aria-label': 'Transcript' })
  const about = h('div')
  main.replaceChildren(head, h('div.meters.wide', {}, h('span', {}, 'caller'), caller.element, h('span', {}, 'agent'), agent.element), about, h('section', {}, h('h2', {}, 'Transcript'), words, legend()))
  let shown = -1

  function draw(now) {
    const known = { ...call, ...now, transcript: now?.lines ?? call.transcript }
    caller.set(now?.level?.[0] ?? 0)
    agent.set(now?.level?.[1] ?? 0)
    head.replaceChildren(heading(known, [time]))
    about.replaceChildren(facts(known))
    const lines = place(known.transcript, known.answered ?? known.started)
    if (lines.length + (known.latency?.length ?? 0) !== shown) {
      shown = lines.length + (known.latency?.length ?? 0)
      const low = words.scrollHeight - words.scrollTop - words.clientHeight < 60
      words.replaceChildren(...entries(lines, known.latency, known.answered ?? known.started, null))
      if (low) words.scrollTop = words.scrollHeight
    }
  }

  const stop = feed.listen(({ changed, gone, levels, all }) => {
    if (gone.includes(call.id) || (all && !feed.calls.has(call.id))) again()
    else if (changed.has(call.id) || all) draw(feed.calls.get(call.id))
    if (levels[call.id]) {
      caller.set(levels[call.id][0])
      agent.set(levels[call.id][1])
    }
  })
  const tick = () => put(time, span(Date.now() / 1000 - (call.answered ?? call.started)))
  const ticking = setInterval(tick, 1000)
  draw(feed.calls.get(call.id))
  tick()
  return () => {
    stop()
    clearInterval(ticking)
  }
}

// Over ----------------------------------------------------------------------------------------------

const optional = (path) => get(path).catch((error) => {
  if (error instanceof Refused) return null // there is none
  throw error
})

async function ended(main, call, path) {
  const [words, recording] = await Promise.all([optional(`${path}/transcript.json`), optional(`${path}/recording.json`)])
  const peaks = recording ? await optional(`${path}/peaks?per_s=${PEAKS_PER_S}`) : null
  const zero = words?.zero ?? call.answered ?? call.started
  const lines = place(words?.lines ?? call.transcript, zero)
  const last = Math.max(0, ...lines.map((line) => line.end))
  const seconds = recording ? recording.duration_ms / 1000 : Math.max(last, (call.ended ?? zero) - zero, 1)

  const sound = h('audio', { preload: 'none' })
  const play = h('button.button.play', { type: 'button', hidden: !recording, onclick: () => toggle() }, 'Play')
  const speed = h('select', { 'aria-label': 'Speed', onchange: () => (sound.playbackRate = Number(speed.value)) },
    ['0.75', '1', '1.25', '1.5', '2'].map((x) => h('option', { value: x, selected: x === '1' }, `${x}×`)))
  const time = h('time', {}, `${span(0)} / ${span(seconds)}`)
  const list = h('ol.transcript', { 'aria-label': 'Transcript' })
  const picture = timeline({ seconds, peaks, lines, marks: marks(lines, call.latency, zero) }, seek)
  const none = recording ? null : h('p.note', {}, 'This call was not recorded: its words stand for the voices.')
  list.append(...entries(lines, call.latency, zero, seek))
  main.replaceChildren(heading(call), facts(call), picture.element,
    h('div.player', {}, play, recording ? h('label', {}, h('span.sr', {}, 'Speed'), speed) : null, time, none, key()),
    h('section', {}, h('h2', {}, 'Transcript'), list, legend()), sound)
  let [fetched, at, frame] = [null, 0, 0]

  async function fetchSound() {
    fetched ??= ask(`${path}/recording`).then((answer) => answer.blob()).then((blob) => {
      sound.src = URL.createObjectURL(blob)
    })
    await fetched
  }

  async function seek(to, start = true) {
    at = to
    shown()
    if (!recording) return
    await fetchSound()
    sound.currentTime = to
    if (start) await sound.play()
  }

  async function toggle() {
    await fetchSound()
    if (sound.paused) await sound.play()
    else sound.pause()
  }

  function shown() {
    picture.head(at)
    put(time, `${span(at)} / ${span(seconds)}`)
    const now = lines.findLastIndex((line) => line.begin <= at + 0.05)
    list.querySelectorAll('li').forEach((item) => item.classList.toggle('now', Number(item.dataset.index) === now))
    if (!sound.paused) list.querySelector('li.now')?.scrollIntoView({ block: 'nearest' })
  }

  function follow() {
    at = sound.currentTime
    shown()
    frame = sound.paused ? 0 : requestAnimationFrame(follow)
  }

  sound.addEventListener('play', () => {
    put(play, 'Pause')
    follow()
  })
  sound.addEventListener('pause', () => put(play, 'Play'))
  const keys = (e) => {
    if (e.key !== ' ' || !recording || /^(INPUT|SELECT|BUTTON|A|TEXTAREA)$/.test(e.target.tagName)) return
    e.preventDefault()
    toggle()
  }
  addEventListener('keydown', keys)
  return () => {
    removeEventListener('keydown', keys)
    cancelAnimationFrame(frame)
    sound.pause()
    if (sound.src) URL.revokeObjectURL(sound.src)
    picture.close()
  }
}

const key = () => h('ul.key', { 'aria-label': 'Marks' },
  [['cut', 'cut off here'], ['reversed', 'paused, went on'], ['takeover', 'taken over'], ['network', 'network lost']].map(([kind, text]) => h('li', {}, h(`i.${kind}`), text)))

// When each line was spoken, s from `zero`: as stored, else judged from when it was noted.
export function place(lines, zero) {
  return lines.map((line) => {
    const noted = line.at - zero
    const long = line.heard_ms > 0 ? line.heard_ms / 1000 : (line.text.split(/\s+/).length || 1) / WORDS_PER_S
    const still = line.role === 'event' || line.role === 'dtmf'
    const end = line.end_ms != null ? line.end_ms / 1000 : noted
    const begin = line.begin_ms != null ? line.begin_ms / 1000 : still ? noted : Math.max(0, noted - long)
    return { ...line, begin, end: Math.max(begin, end) }
  }).sort((a, b) => a.begin - b.begin)
}

function entries(lines, latency, zero, seek) {
  const turns = (latency ?? []).filter((one) => one.voice_to_voice_ms !== undefined && one.at_s?.first_packet !== undefined && one.clock_s !== undefined)
  return lines.map((line, index) => {
    const time = h('time', { title: timeOfDay(zero + line.begin) }, span(line.begin))
    const data = { 'data-index': index }
    if (line.role === 'event') {
      const [kind, text] = event(line.text)
      return h(`li.event.${kind}`, data, time, h('p', {}, text))
    }
    if (line.role === 'dtmf') return h('li.dtmf', data, time, h('p', {}, 'presses ', h('kbd', {}, line.text)))
    const text = seek
      ? h('button.words', { type: 'button', title: 'Play from here', onclick: () => seek(line.begin) }, line.text || '…')
      : h('span.words', {}, line.text || '…')
    const cut = line.cut ? h('p.was-cut', {}, `cut off by the caller after ${((line.heard_ms ?? 0) / 1000).toFixed(1)} s: no more was heard`) : null
    const turn = line.role === 'agent' && turns.find((one) => Math.abs(one.at_s.first_packet + one.clock_s - zero - line.begin) < 1.2)
    return h(`li.${line.role}`, data, time, h('div', {}, h('span.who', {}, line.role), text, cut, turn ? row(turn) : null))
  })
}
