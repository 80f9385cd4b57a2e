// A transcript: when each line was spoken, and how it is shown.

import { row } from './bars.js'
import { event, h, span, timeOfDay } from './dom.js'

const WORDS_PER_S = 2.6 // to place a line whose beginning is not stored
const SAME_TURN_S = 1.2 // a turn's first packet and its line's beginning are no further apart

// When each line was spoken, s from `zero`: as stored, else judged from when it was noted.
export function place(lines, zero) {
  return lines
    .map((line) => {
      const noted = line.at - zero
      const long =
        line.heard_ms > 0
          ? line.heard_ms / 1000
          : (line.text.split(/\s+/).length || 1) / WORDS_PER_S
      const still = line.role === 'event' || line.role === 'dtmf'
      const known = line.end_ms > line.begin_ms
      const end = known ? line.end_ms / 1000 : noted
      const begin = known ? line.begin_ms / 1000 : still ? noted : Math.max(0, noted - long)
      return { ...line, begin, end: Math.max(begin, end) }
    })
    .sort((a, b) => a.begin - b.begin)
}

// The transcript as a list; a line that can be played from calls `seek`.
export function entries(lines, latency, zero, seek) {
  const turns = (latency ?? []).filter(
    (one) =>
      one.voice_to_voice_ms !== undefined &&
      one.at_s?.first_packet !== undefined &&
      one.clock_s !== undefined,
  )
  return lines.map((line, index) => {
    const time = h('time', { title: timeOfDay(zero + line.begin) }, span(line.begin))
    const data = { 'data-index': index }
    if (line.role === 'event') {
      const [kind, text] = event(line.text)
      return h(`li.event.${kind}`, data, time, h('p', {}, text))
    }
    if (line.role === 'dtmf')
      return h('li.dtmf', data, time, h('p', {}, 'presses ', h('kbd', {}, line.text)))
    const text = seek
      ? h(
          'button.words',
          { type: 'button', title: 'Play from here', onclick: () => seek(line.begin) },
          line.text || '…',
        )
      : h('span.words', {}, line.text || '…')
    const cut = line.cut
      ? h(
          'p.was-cut',
          {},
          `cut off by the caller after ${((line.heard_ms ?? 0) / 1000).toFixed(1)} s: no more was heard`,
        )
      : null
    const turn =
      line.role === 'agent' &&
      turns.find(
        (one) => Math.abs(one.at_s.first_packet + one.clock_s - zero - line.begin) < SAME_TURN_S,
      )
    return h(
      `li.${line.role}`,
      data,
      time,
      h('div', {}, h('span.who', {}, line.role), text, cut, turn ? row(turn) : null),
    )
  })
}
