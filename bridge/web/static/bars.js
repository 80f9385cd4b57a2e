// Where a turn's time went, as a stacked bar: what each stage added to what the caller waited.

import { h, svg } from './dom.js'

export const STAGES = [
  ['media_in', 'media in'],
  ['silence', 'silence'],
  ['stt', 'speech to text'],
  ['llm', 'language model'],
  ['tts', 'text to speech'],
  ['media_out', 'media out'],
]
const FULL_MS = 2000
const LEAST_MS = 1200

const answered = (latency) => (latency ?? []).filter((one) => one.voice_to_voice_ms !== undefined)

export function tell(one) {
  const parts = STAGES.filter(([key]) => (one.path_ms?.[key] ?? 0) >= 1).map(
    ([key, name]) => `${name} ${Math.round(one.path_ms[key])}`,
  )
  return `answered after ${Math.round(one.voice_to_voice_ms)} ms: ${parts.join(', ')}`
}

// The last turns side by side, upright.
export function columns(latency, most = 12, first = most) {
  const turns = answered(latency).slice(-most)
  if (!turns.length) return null
  const last = turns.at(-1)
  const highest = Math.max(LEAST_MS, ...turns.map((one) => one.voice_to_voice_ms))
  const picture = svg('svg', {
    viewBox: `0 0 ${most * 10} 40`,
    class: 'columns',
    preserveAspectRatio: 'none',
    role: 'img',
    'aria-label': `Latency of the last ${turns.length} turns; the last ${tell(last)}`,
  })
  turns.forEach((one, index) => {
    let y = 40
    for (const [key] of STAGES) {
      const high = ((one.path_ms?.[key] ?? 0) / highest) * 40
      if (high <= 0) continue
      y -= high
      picture.append(
        svg('rect', {
          x: (Math.max(0, first - turns.length) + index) * 10,
          y: y.toFixed(2),
          width: 7,
          height: high.toFixed(2),
          class: `stage ${key}`,
        }),
      )
    }
  })
  picture.append(svg('title', {}, tell(last)))
  return h(
    'figure.latency',
    {},
    picture,
    h('figcaption', {}, h('b', {}, String(Math.round(last.voice_to_voice_ms))), ' ms'),
  )
}

function percentile(sorted, share) {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]
}

// All turns of a call: their columns, and how long the caller usually waited.
export function summary(latency) {
  const ms = answered(latency)
    .map((one) => one.voice_to_voice_ms)
    .sort((a, b) => a - b)
  if (!ms.length) return null
  const figure = (name, value) =>
    h('div', {}, h('dt', {}, name), h('dd', {}, `${Math.round(value)} ms`))
  return h(
    'section.panel',
    {},
    h('h2', {}, 'How long the caller waited'),
    columns(latency, Math.min(40, Math.max(12, ms.length)), 0),
    h(
      'dl.figures',
      {},
      figure('median', percentile(ms, 0.5)),
      figure('95 %', percentile(ms, 0.95)),
      figure('longest', ms.at(-1)),
    ),
    legend(),
  )
}

// One turn, lying, with its figure.
export function row(one) {
  const bar = h('span.bar', { 'aria-hidden': 'true' })
  const full = Math.max(FULL_MS, one.voice_to_voice_ms)
  for (const [key] of STAGES) {
    const ms = one.path_ms?.[key] ?? 0
    if (ms < 1) continue
    const part = h(`i.stage.${key}`)
    part.style.width = `${(ms / full) * 100}%`
    bar.append(part)
  }
  return h(
    'p.turn',
    { title: tell(one) },
    bar,
    h('span.ms', {}, `${Math.round(one.voice_to_voice_ms)} ms`),
    h('span.sr', {}, tell(one)),
  )
}

export function legend() {
  return h(
    'ul.legend',
    { 'aria-label': 'Colours of the latency bars' },
    STAGES.map(([key, name]) => h('li', {}, h(`i.stage.${key}`), name)),
  )
}
