// Calls in progress, a card each.

import { columns } from './bars.js'
import { isMuted, isPaused } from './desk.js'
import { event, h, losses, meter, put, quality, reversed, span, takeovers, who } from './dom.js'
import * as feed from './feed.js'

const LINES = 4
const DENSE = 12
const SECOND_MS = 1000

export function show(main) {
  const cards = new Map()
  const title = h('h1', {}, 'Live')
  const about = h('p.about', { role: 'status' })
  const grid = h('ul.cards', { 'aria-label': 'Calls in progress' })
  const empty = h(
    'div.empty',
    { hidden: true },
    h('p', {}, 'No call is in progress.'),
    h('p', {}, 'Dial an agent’s number, and the call appears here.'),
  )
  const workers = h('ul.workers', { 'aria-label': 'Workers' })
  const fleetBox = h('section.fleet', {}, h('h2', {}, 'Workers'), workers)
  main.replaceChildren(h('div.head', {}, title, about), grid, empty, fleetBox)

  function draw({ changed, gone, levels, all, workers: fleet }) {
    if (all) {
      for (const [id, card] of cards) if (!feed.calls.has(id)) remove(id, card)
      feed.calls.forEach((_, id) => changed.add(id))
    }
    for (const id of gone) if (cards.has(id)) remove(id, cards.get(id))
    for (const id of changed) {
      const call = feed.calls.get(id)
      if (!call?.started) continue
      if (!cards.has(id)) add(id)
      cards.get(id).update(call)
      cards.get(id).meters(call.level)
    }
    for (const [id, level] of Object.entries(levels)) cards.get(id)?.meters(level)
    if (fleet || all) drawWorkers()
    grid.classList.toggle('dense', cards.size > DENSE)
    empty.hidden = cards.size > 0
    grid.hidden = cards.size === 0
    put(
      about,
      cards.size === 0
        ? ''
        : cards.size === 1
          ? '1 call in progress'
          : `${cards.size} calls in progress`,
    )
  }

  function add(id) {
    const card = makeCard(id)
    cards.set(id, card)
    grid.prepend(card.element)
  }

  function remove(id, card) {
    card.element.remove()
    cards.delete(id)
  }

  function drawWorkers() {
    fleetBox.hidden = feed.workers.length === 0
    workers.replaceChildren(
      ...feed.workers.map((one) =>
        h(
          `li.worker${one.alive ? '' : '.dead'}`,
          {},
          h('b', {}, shortName(one.name)),
          h(
            'span',
            {},
            !one.alive
              ? 'gone'
              : one.takes_calls
                ? `${one.calls} call${one.calls === 1 ? '' : 's'}`
                : 'takes no calls',
          ),
        ),
      ),
    )
  }

  draw({ changed: new Set(), gone: [], levels: {}, all: true, workers: true })
  const stop = feed.listen(draw)
  const ticking = setInterval(() => {
    const now = Date.now() / SECOND_MS
    for (const [id, card] of cards) if (feed.calls.has(id)) card.tick(now)
  }, SECOND_MS)
  return () => {
    stop()
    clearInterval(ticking)
  }
}

// HOST-PID-TOKEN, without what all of them share.
export const shortName = (name) => name.split('-').slice(-2).join('-') || '–'

export function badges(call) {
  const found = []
  const taken = takeovers(call.lines)
  if (taken)
    found.push(
      h(
        'span.badge.takeover',
        { title: 'The worker that held this call died; another went on with it' },
        taken === 1 ? 'taken over' : `taken over ${taken}×`,
      ),
    )
  const back = reversed(call.latency).length
  if (back)
    found.push(
      h(
        'span.badge.reversed',
        { title: 'The agent paused for what was no interruption, and went on' },
        back === 1 ? 'went on' : `went on ${back}×`,
      ),
    )
  const cut = (call.lines ?? []).filter((line) => line.cut).length
  if (cut)
    found.push(
      h(
        'span.badge.cut',
        { title: 'The caller interrupted the agent' },
        cut === 1 ? 'interrupted' : `interrupted ${cut}×`,
      ),
    )
  const lost = losses(call.lines)
  if (lost)
    found.push(
      h(
        'span.badge.network',
        { title: 'In a second or more much of the caller’s audio was lost' },
        lost === 1 ? 'audio lost' : `audio lost ${lost}×`,
      ),
    )
  if (call.state !== 'ended' && isMuted(call.lines))
    found.push(h('span.badge', { title: 'Somebody has silenced the agent' }, 'muted'))
  if (call.state !== 'ended' && call.recorded && isPaused(call.lines))
    found.push(h('span.badge', { title: 'What is said now is not recorded' }, 'not recorded'))
  const line = quality(call.audio)
  if (line && (line.word !== 'good' || line.lost >= 1))
    found.push(
      h(
        'span.badge.network',
        { title: `Estimated opinion ${line.mos.toFixed(1)} of 4.5` },
        line.lost < 0.05
          ? `line ${line.word}`
          : `line ${line.word}, ${line.lost.toFixed(1)} % lost`,
      ),
    )
  return found
}

function makeCard(id) {
  const [name, state, time, foot] = [h('h2'), h('span.state'), h('time'), h('p.foot')]
  const [lines, latency, flags] = [h('ol.lines'), h('div.turns'), h('p.badges')]
  const caller = meter('Caller’s level', 'caller')
  const agent = meter('Agent’s level', 'agent')
  const element = h(
    'li.card',
    {},
    h(
      'a',
      { href: `#/call/${encodeURIComponent(id)}` },
      h('header', {}, name, state, time),
      h(
        'div.meters',
        {},
        h('span', { 'aria-hidden': 'true' }, 'caller'),
        caller.element,
        h('span', { 'aria-hidden': 'true' }, 'agent'),
        agent.element,
      ),
      lines,
      h('div.under', {}, flags, latency),
      foot,
    ),
  )
  let started = 0

  function update(call) {
    started = call.answered ?? call.started
    put(name, `${who(call)} ${call.direction === 'out' ? '←' : '→'} ${call.agent || '…'}`)
    put(state, call.state)
    state.dataset.state = call.state
    lines.replaceChildren(
      ...(call.lines.length
        ? call.lines.slice(-LINES).map(line)
        : [h('li.silent', {}, 'Nothing was said yet.')]),
    )
    flags.replaceChildren(...badges(call))
    latency.replaceChildren(...[columns(call.latency)].filter(Boolean))
    const net = quality(call.audio)
    foot.replaceChildren(
      h(
        `span.net.${net?.word ?? 'unknown'}`,
        {
          title: net
            ? `Estimated opinion ${net.mos.toFixed(1)} of 4.5, ${net.lost.toFixed(1)} % lost`
            : 'Not known yet',
        },
        net ? `line ${net.word}` : 'line',
      ),
      h('span', {}, [call.codec, call.engine].filter(Boolean).join(' · ')),
      h('span', { title: call.worker }, shortName(call.worker ?? '')),
    )
    tick(Date.now() / SECOND_MS)
  }
  const tick = (now) => put(time, span(now - started))
  const meters = ([one, other]) => {
    caller.set(one)
    agent.set(other)
  }
  return { element, update, tick, meters }
}

export function line(said) {
  if (said.role === 'event') {
    const [kind, text] = event(said.text)
    return h(`li.event.${kind}`, {}, text)
  }
  if (said.role === 'dtmf')
    return h('li.dtmf', {}, h('span.sr', {}, 'Caller presses '), h('kbd', {}, said.text))
  const cut = said.cut
    ? h(
        'span.was-cut',
        { title: `The caller heard ${(said.heard_ms / SECOND_MS).toFixed(1)} s of it` },
        '— cut off',
      )
    : null
  return h(`li.${said.role}`, {}, h('span.sr', {}, `${said.role}: `), said.text, cut && ' ', cut)
}
