// One call: its picture over time, its sound, its words, where the time of each turn went.

import { ask, get, Refused } from './api.js'
import { summary } from './bars.js'
import { h, meter, put, quality, span, when, who } from './dom.js'
import * as feed from './feed.js'
import { badges, shortName } from './live.js'
import { marks, timeline } from './timeline.js'
import { entries, place } from './words.js'

const PEAKS = 12_000 // of a whole call, but 20 to 200 a second
const STILL_WRITTEN_S = 30
const AGAIN_MS = 1000
const NEAR_PX = 80 // of the page's end: it goes along with what is said

export function show(main, id) {
  main.replaceChildren(h('p.about', {}, 'Reading the call …'))
  const path = `/v1/calls/${encodeURIComponent(id)}`
  let [closed, close] = [false, () => {}]
  async function load() {
    try {
      const call = await get(path)
      if (closed) return
      close()
      close = call.state === 'ended' ? await ended(main, call, path, load) : going(main, call, load)
      if (closed) close()
    } catch (error) {
      if (!closed)
        main.replaceChildren(
          h('div.empty', {}, h('h1', {}, 'No such call'), h('p', {}, error.message)),
        )
    }
  }
  load()
  return () => {
    closed = true
    close()
  }
}

function facts(call) {
  const told = [
    ['began', when(call.started)],
    ['lasted', call.ended ? span(call.ended - (call.answered ?? call.started)) : ''],
    ['ended', call.ended ? [call.result, call.reason].filter(Boolean).join(': ') : ''],
    ['dialled', call.dialed],
    ['engine', call.engine],
    ['codec', call.codec],
    ['worker', call.worker ? shortName(call.worker) : ''],
  ]
  return h(
    'dl.facts',
    {},
    told
      .filter(([, text]) => text)
      .map(([name, text]) => h('div', {}, h('dt', {}, name), h('dd', {}, text))),
  )
}

// Both legs of the line: what we get of the PBX, what the PBX gets of the caller, what he gets.
function line(audio) {
  const legs = [
    ['PBX to us', audio?.mos, audio?.loss_percent],
    ['caller to PBX', audio?.caller?.mos, audio?.caller?.loss_percent],
    ['PBX to caller', audio?.caller?.mos_there, audio?.caller?.loss_percent_there],
  ].filter(([, mos]) => mos > 0)
  if (!legs.length) return null
  return h(
    'section.panel',
    {},
    h('h2', {}, 'The line'),
    h(
      'table',
      {},
      h(
        'thead',
        {},
        h(
          'tr',
          {},
          ['', 'opinion', 'lost'].map((name) => h('th', { scope: 'col' }, name)),
        ),
      ),
      h(
        'tbody',
        {},
        legs.map(([name, mos, lost]) =>
          h(
            'tr',
            {},
            h('th', { scope: 'row' }, name),
            h('td', {}, h(`span.net.${quality({ mos }).word}`, {}, mos.toFixed(1))),
            h('td', {}, `${(lost ?? 0).toFixed(1)} %`),
          ),
        ),
      ),
    ),
  )
}

const aside = (call) => [summary(call.latency), line(call.audio)].filter(Boolean)

function heading(call, more = []) {
  return h(
    'div.head',
    {},
    h('h1', {}, `${who(call)} ${call.direction === 'out' ? '←' : '→'} ${call.agent}`),
    h(
      'span.state',
      { 'data-state': call.state },
      call.state === 'ended' ? call.result || 'ended' : call.state,
    ),
    h('p.badges', {}, badges({ ...call, lines: call.transcript })),
    ...more,
  )
}

// In progress ---------------------------------------------------------------------------------------

function going(main, call, again) {
  const caller = meter('Caller’s level', 'caller')
  const agent = meter('Agent’s level', 'agent')
  const time = h('time')
  const head = h('div')
  const words = h('ol.transcript', { 'aria-live': 'polite', 'aria-label': 'Transcript' })
  const about = h('div')
  const side = h('aside', { 'aria-label': 'Figures' })
  main.replaceChildren(
    head,
    h(
      'div.meters.wide',
      {},
      h('span', {}, 'caller'),
      caller.element,
      h('span', {}, 'agent'),
      agent.element,
    ),
    about,
    h('div.columns-2', {}, h('section', {}, h('h2', {}, 'Transcript'), words), side),
  )
  let [shown, bars] = [[], 0]

  function draw(now) {
    const known = { ...call, ...now, transcript: now?.lines ?? call.transcript }
    caller.set(now?.level?.[0] ?? 0)
    agent.set(now?.level?.[1] ?? 0)
    head.replaceChildren(heading(known, [time]))
    about.replaceChildren(facts(known))
    side.replaceChildren(...aside(known))
    const zero = known.answered ?? known.started
    const lines = place(known.transcript, zero)
    const keys = lines.map((line) => `${line.at} ${line.role} ${line.text}`)
    const news = (known.latency?.length ?? 0) !== bars
    if (!news && keys.length === shown.length) return
    const page = document.documentElement
    const low = page.scrollHeight - page.scrollTop - page.clientHeight < NEAR_PX
    const all = entries(lines, known.latency, zero, null)
    // Only what is new is added, where that will do: a screen reader would say all of it again.
    const grown = !news && shown.every((key, index) => key === keys[index])
    if (grown) words.append(...all.slice(shown.length))
    else words.replaceChildren(...all)
    ;[shown, bars] = [keys, known.latency?.length ?? 0]
    if (low) page.scrollTop = page.scrollHeight
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

const optional = (path) =>
  get(path).catch((error) => {
    if (error instanceof Refused) return null // there is none
    throw error
  })

async function ended(main, call, path, again) {
  const [words, found] = await Promise.all([
    optional(`${path}/transcript.json`),
    optional(`${path}/recording.json`),
  ])
  // Its file is finished a moment after the call.
  const recording = found?.duration_ms > 0 ? found : null
  const waiting =
    found && !recording && Date.now() / 1000 - call.ended < STILL_WRITTEN_S
      ? setTimeout(again, AGAIN_MS)
      : 0
  const peaks = recording
    ? await optional(
        `${path}/peaks?per_s=${Math.min(200, Math.max(20, Math.floor((PEAKS * 1000) / recording.duration_ms)))}`,
      )
    : null
  const zero = words?.zero ?? call.answered ?? call.started
  const lines = place(words?.lines ?? call.transcript, zero)
  const last = Math.max(0, ...lines.map((line) => line.end))
  const seconds = recording
    ? recording.duration_ms / 1000
    : Math.max(last, (call.ended ?? zero) - zero, 1)

  const sound = h('audio', { preload: 'none' })
  const play = h(
    'button.button.play',
    { type: 'button', hidden: !recording, onclick: () => toggle() },
    'Play',
  )
  const speed = h(
    'select',
    { 'aria-label': 'Speed', onchange: () => (sound.playbackRate = Number(speed.value)) },
    ['0.75', '1', '1.25', '1.5', '2'].map((x) =>
      h('option', { value: x, selected: x === '1' }, `${x}×`),
    ),
  )
  const time = h('time', {}, `${span(0)} / ${span(seconds)}`)
  const list = h('ol.transcript', { 'aria-label': 'Transcript' })
  const spans = [
    ...(recording?.pauses ?? []).map((one) => [...one, 'the recording was paused']),
    ...(recording?.lost ?? []).map((one) => [...one, 'could not be recorded']),
  ]
  const silent = spans.map(([begin, end, text]) => ({
    at: begin / 1000,
    until: end / 1000,
    kind: 'muted',
    text,
  }))
  const picture = timeline(
    { seconds, peaks, lines, marks: [...marks(lines, call.latency, zero), ...silent] },
    seek,
  )
  const none = recording
    ? null
    : h(
        'p.note',
        {},
        waiting
          ? 'The recording is being finished …'
          : 'This call was not recorded: its words stand for the voices.',
      )
  list.append(...entries(lines, call.latency, zero, seek))
  main.replaceChildren(
    heading(call),
    facts(call),
    h(
      'div.stays',
      {},
      picture.element,
      h(
        'div.player',
        {},
        play,
        recording ? h('label', {}, h('span.sr', {}, 'Speed'), speed) : null,
        time,
        none,
        key(),
      ),
    ),
    h(
      'div.columns-2',
      {},
      h('section', {}, h('h2', {}, 'Transcript'), list),
      h('aside', { 'aria-label': 'Figures' }, aside(call)),
    ),
    sound,
  )
  let [fetched, at, frame, current] = [null, 0, 0, -1]

  async function fetchSound() {
    fetched ??= ask(`${path}/recording`)
      .then((answer) => answer.blob())
      .then((blob) => {
        sound.src = URL.createObjectURL(blob)
      })
    await fetched
  }

  async function begin() {
    try {
      await sound.play()
    } catch (error) {
      if (error.name !== 'AbortError') throw error // stopped before it began
    }
  }

  async function seek(to, start = true) {
    at = to
    shown()
    if (!recording) return
    await fetchSound()
    sound.currentTime = to
    if (start) await begin()
  }

  async function toggle() {
    await fetchSound()
    if (sound.paused) await begin()
    else sound.pause()
  }

  function shown() {
    picture.head(at)
    put(time, `${span(at)} / ${span(seconds)}`)
    const now = lines.findLastIndex((line) => line.begin <= at + 0.05)
    if (now === current) return
    current = now
    list
      .querySelectorAll('li')
      .forEach((item) => item.classList.toggle('now', Number(item.dataset.index) === now))
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
    if (e.key !== ' ' || !recording || /^(INPUT|SELECT|BUTTON|A|TEXTAREA)$/.test(e.target.tagName))
      return
    e.preventDefault()
    toggle()
  }
  addEventListener('keydown', keys)
  return () => {
    clearTimeout(waiting)
    removeEventListener('keydown', keys)
    cancelAnimationFrame(frame)
    sound.pause()
    if (sound.src) URL.revokeObjectURL(sound.src)
    picture.close()
  }
}

const key = () =>
  h(
    'ul.key',
    { 'aria-label': 'Marks' },
    [
      ['cut', 'cut off here'],
      ['reversed', 'paused, went on'],
      ['takeover', 'taken over'],
      ['network', 'network lost'],
    ].map(([kind, text]) => h('li', {}, h(`i.${kind}`), text)),
  )
