// One call: its picture over time, its sound, its words, where the time of each turn went.

import { ask, get, Refused } from './api.js'
import { summary } from './bars.js'
import { desk } from './desk.js'
import { h, meter, put, quality, span, when, who } from './dom.js'
import * as feed from './feed.js'
import { badges, shortName } from './live.js'
import { player } from './player.js'
import { marks, timeline } from './timeline.js'
import { entries, place } from './words.js'

const PEAKS = 12_000 // of a whole call, but 20 to 200 a second
const LEAST_GAP_S = 0.1 // between two parts, to be shown
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
  const can = desk(call.id)
  can.element.hidden = true // until it is known that this token may
  get('/v1/token').then(
    ({ role }) => (can.element.hidden = role === 'read'),
    () => (can.element.hidden = false), // then its refusals are said
  )
  main.replaceChildren(
    head,
    can.element,
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
    can.update(known, known.transcript)
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
    can.close()
    clearInterval(ticking)
  }
}

// Over ----------------------------------------------------------------------------------------------

const optional = (path) =>
  get(path).catch((error) => {
    if (error instanceof Refused) return null // there is none
    throw error
  })

// What is known of each part of the recording that can be had, by its place in the call's time.
async function recorded(call, path, zero) {
  const found = []
  for (let part = 0; part < (call.recording_parts ?? 0); part += 1) {
    const about = await optional(`${path}/recording.json?part=${part}`)
    if (!about) continue
    const at = Math.max(0, about.started - zero)
    const load = () =>
      ask(`${path}/recording?part=${part}`).then(
        (answer) => answer.blob(),
        (error) => {
          if (error instanceof Refused) return null // deleted meanwhile
          throw error
        },
      )
    found.push({ about, part, at, seconds: about.duration_ms / 1000, load })
  }
  return found
}

// What nobody hears of the recording: [from, to, why], s.
function silences(call, found, parts) {
  const told = parts.flatMap(({ about, at }) => [
    ...about.pauses.map(([begin, end]) => [at + begin / 1000, at + end / 1000, 'the recording was paused']),
    ...about.lost.map(([begin, end]) => [at + begin / 1000, at + end / 1000, 'could not be recorded']),
  ])
  const away = call.recording_parts - found.length
  const why = away ? 'recorded on another host, or deleted' : 'nobody recorded'
  parts.forEach(({ at }, n) => {
    const before = n ? parts[n - 1].at + parts[n - 1].seconds : 0
    if (at - before > LEAST_GAP_S) told.push([before, at, why])
  })
  return told
}

async function ended(main, call, path, again) {
  const words = await optional(`${path}/transcript.json`)
  const zero = words?.zero ?? call.answered ?? call.started
  const found = await recorded(call, path, zero)
  const parts = found.filter((part) => part.seconds > 0)
  // Its file is finished a moment after the call.
  const waiting =
    found.length > parts.length && Date.now() / 1000 - call.ended < STILL_WRITTEN_S
      ? setTimeout(again, AGAIN_MS)
      : 0
  const long = parts.reduce((sum, part) => sum + part.seconds, 0)
  const fine = Math.min(200, Math.max(20, Math.floor(PEAKS / long)))
  const waves = []
  for (const { part, at } of parts) {
    const peaks = await optional(`${path}/peaks?part=${part}&per_s=${fine}`)
    if (peaks) waves.push({ at, ...peaks })
  }
  const lines = place(words?.lines ?? call.transcript, zero)
  const last = Math.max(0, ...lines.map((line) => line.end))
  const seconds = parts.length
    ? Math.max(...parts.map((part) => part.at + part.seconds))
    : Math.max(last, (call.ended ?? zero) - zero, 1)

  const plays = player(parts, seconds, () => {
    put(play, plays.playing ? 'Pause' : 'Play')
    if (plays.playing) follow()
  })
  const play = h(
    'button.button.play',
    { type: 'button', hidden: !parts.length, onclick: () => toggle() },
    'Play',
  )
  const speed = h(
    'select',
    { 'aria-label': 'Speed', onchange: () => plays.speed(Number(speed.value)) },
    ['0.75', '1', '1.25', '1.5', '2'].map((x) =>
      h('option', { value: x, selected: x === '1' }, `${x}×`),
    ),
  )
  const time = h('time', {}, `${span(0)} / ${span(seconds)}`)
  const list = h('ol.transcript', { 'aria-label': 'Transcript' })
  const silent = silences(call, found, parts).map(([begin, end, text]) => ({
    at: begin,
    until: end,
    kind: 'muted',
    text,
  }))
  const happened = [...marks(lines, call.latency, zero), ...silent].sort((a, b) => a.at - b.at)
  const picture = timeline({ seconds, waves, lines, marks: happened }, seek)
  const none =
    parts.length && found.length === call.recording_parts
      ? null
      : h(
          'p.note',
          {},
          waiting
            ? 'The recording is being finished …'
            : !call.recording_parts
              ? 'This call was not recorded: its words stand for the voices.'
              : parts.length
                ? 'A part of the recording is on another host, or was deleted.'
                : 'The recording is on another host, or was deleted: its words stand for the voices.',
        )
  const problem = h('p.refused', { role: 'alert' })
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
        parts.length ? h('label', {}, h('span.sr', {}, 'Speed'), speed) : null,
        time,
        keep(path, problem),
        none,
        problem,
        events(happened, seek),
      ),
    ),
    h(
      'div.columns-2',
      {},
      h('section', {}, h('h2', {}, 'Transcript'), list),
      h('aside', { 'aria-label': 'Figures' }, aside(call)),
    ),
  )
  let [at, frame, current] = [0, 0, -1]

  async function seek(to, start = true) {
    at = to
    shown()
    if (!parts.length) return
    await heard(() => (start ? plays.playFrom(to) : plays.seek(to)))
  }

  const toggle = () => heard(() => (plays.playing ? plays.pause() : plays.play()))

  async function heard(what) {
    put(problem, '')
    try {
      await what()
    } catch (error) {
      put(problem, `The sound can’t be played: ${error.message}`)
    }
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
    if (plays.playing) list.querySelector('li.now')?.scrollIntoView({ block: 'nearest' })
  }

  function follow() {
    cancelAnimationFrame(frame)
    at = plays.now()
    shown()
    frame = plays.playing ? requestAnimationFrame(follow) : 0
  }

  const keys = (e) => {
    if (e.key !== ' ' || !parts.length || /^(INPUT|SELECT|BUTTON|A|TEXTAREA)$/.test(e.target.tagName))
      return
    e.preventDefault()
    toggle()
  }
  addEventListener('keydown', keys)
  return () => {
    clearTimeout(waiting)
    removeEventListener('keydown', keys)
    cancelAnimationFrame(frame)
    plays.close()
    picture.close()
  }
}

// The page as a file of its own; a file that was saved can't be saved again.
function keep(path, problem) {
  if (location.protocol === 'file:') return null
  const button = h('button.button.keep', { type: 'button', onclick: save, title: 'This page and its sound as one file' }, 'Save')
  async function save() {
    if (button.ariaDisabled) return
    button.ariaDisabled = 'true'
    put(problem, '')
    try {
      const answer = await ask(`${path}/page.html`)
      const name = /filename="([^"]+)"/.exec(answer.headers.get('Content-Disposition'))?.[1]
      const url = URL.createObjectURL(await answer.blob())
      h('a', { href: url, download: name ?? 'call.html' }).click()
      setTimeout(() => URL.revokeObjectURL(url), AGAIN_MS)
    } catch (error) {
      put(problem, error.message)
    }
    button.ariaDisabled = null
  }
  return button
}

// What happened in the call, each a way there.
const events = (happened, seek) =>
  h(
    'ul.happened',
    { 'aria-label': 'What happened' },
    happened.map((mark) =>
      h(
        'li',
        {},
        h(
          `button.${mark.kind}`,
          { type: 'button', onclick: () => seek(mark.at) },
          h('time', {}, span(mark.at)),
          mark.text,
        ),
      ),
    ),
  )
