// A call's picture over its time: both voices, what was said and cut, what happened.
//
// Seconds count from the recording's start, or where there is none from the answer. Without a
// recording the lines of the transcript stand for the voices.

import { event, h, span } from './dom.js'

const WAVE = 66 // each voice's lane, px
const GAP = 6
const MARKS = 22
const AXIS = 20
const HEIGHT = MARKS + 2 * WAVE + GAP + AXIS
const CLOSEST_S = 4
const ONE_NUMBER_S = 2.5 // between two keys that are shown as one number
const LOSS_S = 2 // a bad stretch is looked at once a second, and noted when it is over
const STEPS = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600]

// data: {seconds, waves: [{at, per_s, caller, agent}], lines: [{role, text, begin, end, cut}],
//        marks: [{at, kind, text, until?}]}
// seek(seconds) is told where somebody clicked.
export function timeline(data, seek) {
  const canvas = h('canvas', {
    height: HEIGHT,
    tabindex: 0,
    role: 'slider',
    'aria-label': 'Time in the call',
    'aria-valuemin': 0,
    'aria-valuemax': Math.round(data.seconds),
  })
  const tip = h('p.tip', { 'aria-hidden': 'true', hidden: true })
  const zoomIn = h(
    'button.plain',
    { type: 'button', 'aria-label': 'Zoom in', onclick: () => zoom(0.5, middle()) },
    '+',
  )
  const zoomOut = h(
    'button.plain',
    { type: 'button', 'aria-label': 'Zoom out', onclick: () => zoom(2, middle()) },
    '−',
  )
  const whole = h('button.plain', { type: 'button', onclick: () => set(0, data.seconds) }, 'All')
  const probe = h('i', { hidden: true }) // tells what a colour of the style sheet is now
  const element = h(
    'div.timeline',
    {},
    probe,
    canvas,
    tip,
    h('div.zoom', { role: 'group', 'aria-label': 'Zoom' }, zoomIn, zoomOut, whole),
  )
  const context = canvas.getContext('2d')
  let [from, to, head, width, colours] = [0, Math.max(1, data.seconds), 0, 300, {}]
  let waiting = false

  const x = (seconds) => ((seconds - from) / (to - from)) * width
  const at = (px) => from + (px / width) * (to - from)
  const middle = () => (head >= from && head <= to ? head : (from + to) / 2)

  function set(start, end) {
    const length = Math.min(Math.max(end - start, Math.min(CLOSEST_S, data.seconds)), data.seconds)
    from = Math.min(Math.max(0, start), Math.max(0, data.seconds - length))
    to = from + length
    canvas.setAttribute('aria-description', `shows ${span(from)} to ${span(to)}`)
    draw()
  }

  const zoom = (factor, around) =>
    set(around - (around - from) * factor, around + (to - around) * factor)

  function draw() {
    if (waiting) return
    waiting = true
    requestAnimationFrame(() => {
      waiting = false
      paint()
    })
  }

  function resize() {
    const ratio = devicePixelRatio || 1
    width = canvas.clientWidth || 300
    canvas.width = Math.round(width * ratio)
    canvas.height = Math.round(HEIGHT * ratio)
    context.setTransform(ratio, 0, 0, ratio, 0, 0)
    for (const name of [
      'caller',
      'agent',
      'cut',
      'takeover',
      'network',
      'reversed',
      'text',
      'muted',
      'rule',
      'lane',
      'sheet',
      'accent',
    ]) {
      probe.style.color = `var(--${name})`
      colours[name] = getComputedStyle(probe).color
    }
    draw()
  }

  function paint() {
    context.clearRect(0, 0, width, HEIGHT)
    const [upper, lower] = [MARKS, MARKS + WAVE + GAP]
    context.fillStyle = colours.lane
    context.fillRect(0, upper, width, WAVE)
    context.fillRect(0, lower, width, WAVE)
    axis()
    for (const line of data.lines) {
      if (line.end < from || line.begin > to || !['caller', 'agent'].includes(line.role)) continue
      const top = line.role === 'caller' ? upper : lower
      context.globalAlpha = data.waves.length ? 0.14 : 0.5
      context.fillStyle = colours[line.role]
      context.fillRect(x(line.begin), top, Math.max(2, x(line.end) - x(line.begin)), WAVE)
      context.globalAlpha = 1
    }
    for (const one of data.waves) {
      wave(one, one.caller, upper, colours.caller)
      wave(one, one.agent, lower, colours.agent)
    }
    for (const line of data.lines) if (line.cut) cutMark(line, lower)
    for (const mark of data.marks) drawMark(mark, upper, lower)
    context.fillStyle = colours.muted
    context.font = '600 10px system-ui, sans-serif'
    context.fillText('caller', 6, upper + 13)
    context.fillText('agent', 6, lower + 13)
    context.fillStyle = colours.text
    context.fillRect(x(head) - 0.75, 0, 1.5, HEIGHT - AXIS)
  }

  function wave({ at: begin, per_s }, peaks, top, colour) {
    const half = WAVE / 2
    context.fillStyle = colour
    for (let px = 0; px < width; px += 2) {
      const [first, last] = [
        Math.floor((at(px) - begin) * per_s),
        Math.ceil((at(px + 2) - begin) * per_s),
      ]
      let high = 0
      for (let i = Math.max(0, first); i < Math.min(last, peaks.length); i += 1)
        high = Math.max(high, peaks[i])
      const size = Math.max(high ? 0.8 : 0, (high / 255) ** 0.7 * (half - 3))
      if (size) context.fillRect(px, top + half - size, 1.4, 2 * size)
    }
  }

  // Where the agent was cut: all beyond was never heard.
  function cutMark(line, top) {
    const px = x(line.end)
    context.fillStyle = colours.cut
    context.fillRect(px - 1, top - 3, 2, WAVE + 6)
    context.beginPath()
    context.moveTo(px - 5, top - 3)
    context.lineTo(px + 5, top - 3)
    context.lineTo(px, top + 4)
    context.fill()
  }

  // Each kind has its own shape, too: colours alone don't tell everybody apart.
  function drawMark(mark, upper, lower) {
    if (mark.at > to || (mark.until ?? mark.at) < from) return
    const px = x(mark.at)
    const top = upper - 10
    context.fillStyle = context.strokeStyle = colours[mark.kind] || colours.muted
    if (mark.until !== undefined) {
      const [begin, high] = {
        network: [upper, WAVE],
        reversed: [lower, WAVE],
      }[mark.kind] ?? [upper, 2 * WAVE + GAP]
      context.globalAlpha = 0.35
      context.fillRect(px, begin, Math.max(2, x(mark.until) - px), high)
      context.globalAlpha = 1
    }
    if (mark.key !== undefined) {
      context.font = '700 11px ui-monospace, monospace'
      context.fillRect(px - 2, top - 7, context.measureText(mark.key).width + 7, 14)
      context.fillStyle = colours.sheet
      context.fillText(mark.key, px + 1.5, top + 4)
      return
    }
    context.beginPath()
    if (mark.kind === 'takeover') {
      context.fillRect(px - 0.75, upper - 8, 1.5, 2 * WAVE + GAP + 8)
      context.rect(px - 4.5, top - 5, 9, 9)
    } else if (mark.kind === 'network') {
      context.moveTo(px, top - 6)
      context.lineTo(px + 6, top)
      context.lineTo(px, top + 6)
      context.lineTo(px - 6, top)
    } else if (mark.kind === 'cut') {
      context.moveTo(px - 5.5, top - 5)
      context.lineTo(px + 5.5, top - 5)
      context.lineTo(px, top + 5)
    } else if (mark.kind === 'reversed') {
      context.lineWidth = 2.5
      context.arc(px, top, 4, 0, 7)
      context.stroke()
      return
    } else context.arc(px, top, 3.5, 0, 7)
    context.fill()
  }

  function axis() {
    const step = STEPS.find((s) => (s / (to - from)) * width >= 64) ?? STEPS.at(-1)
    context.font = '11px system-ui, sans-serif'
    for (let t = Math.ceil(from / step) * step; t <= to; t += step) {
      context.fillStyle = colours.rule
      context.fillRect(x(t), MARKS, 1, HEIGHT - MARKS - AXIS)
      context.fillStyle = colours.muted
      const text = step < 1 ? `${span(t)}${t % 1 ? '.5' : ''}` : span(t)
      context.fillText(text, Math.min(x(t) + 3, width - 28), HEIGHT - 6)
    }
  }

  // By hand: click plays from there, drag moves, the wheel zooms, keys do all of it.
  let pressed = null
  canvas.addEventListener('pointerdown', (e) => {
    pressed = { x: e.offsetX, from, to, moved: false }
    canvas.setPointerCapture(e.pointerId)
  })
  canvas.addEventListener('pointermove', (e) => {
    hover(e)
    if (!pressed) return
    const moved = e.offsetX - pressed.x
    if (Math.abs(moved) > 4) pressed.moved = true
    if (pressed.moved)
      set(
        pressed.from - (moved / width) * (pressed.to - pressed.from),
        pressed.to - (moved / width) * (pressed.to - pressed.from),
      )
  })
  canvas.addEventListener('pointerup', (e) => {
    if (pressed && !pressed.moved) seek(Math.max(0, at(e.offsetX)))
    pressed = null
  })
  canvas.addEventListener('pointerleave', () => (tip.hidden = true))
  canvas.addEventListener(
    'wheel',
    (e) => {
      if (!e.ctrlKey && Math.abs(e.deltaX) > Math.abs(e.deltaY)) {
        const by = (e.deltaX / width) * (to - from)
        set(from + by, to + by)
      } else zoom(e.deltaY > 0 ? 1.25 : 0.8, at(e.offsetX))
      e.preventDefault()
    },
    { passive: false },
  )
  canvas.addEventListener('keydown', (e) => {
    const step = e.shiftKey ? 10 : 2
    const does = {
      ArrowLeft: () => seek(Math.max(0, head - step), false),
      ArrowRight: () => seek(Math.min(data.seconds, head + step), false),
      Home: () => seek(0, false),
      End: () => seek(data.seconds, false),
      '+': () => zoom(0.5, middle()),
      '=': () => zoom(0.5, middle()),
      '-': () => zoom(2, middle()),
      0: () => set(0, data.seconds),
    }[e.key]
    if (!does) return
    does()
    e.preventDefault()
  })

  function hover(e) {
    const near = data.marks.find(
      (mark) => Math.abs(x(mark.at) - e.offsetX) < 7 && e.offsetY < MARKS + 4,
    )
    tip.hidden = false
    tip.textContent = near ? `${span(near.at)}  ${near.text}` : span(at(e.offsetX))
    tip.style.left = `${Math.min(Math.max(e.offsetX, 40), width - 60)}px`
  }

  const watch = new ResizeObserver(resize)
  watch.observe(canvas)
  const dark = matchMedia('(prefers-color-scheme: dark)')
  dark.addEventListener('change', resize)

  return {
    element,
    // The playhead; the view follows it.
    head(seconds) {
      head = seconds
      canvas.setAttribute('aria-valuenow', Math.round(seconds))
      canvas.setAttribute('aria-valuetext', span(seconds))
      if (seconds > to || seconds < from)
        set(seconds - (to - from) * 0.1, seconds + (to - from) * 0.9)
      draw()
    },
    close() {
      watch.disconnect()
      dark.removeEventListener('change', resize)
    },
  }
}

// What is worth a mark: takeovers, keys, interruptions, lost audio, reversed barge-ins.
export function marks(lines, latency, zero) {
  const found = []
  let keys = null
  for (const line of lines) {
    if (line.role === 'dtmf') {
      const more = keys && line.begin - keys.last < ONE_NUMBER_S
      if (!more) found.push((keys = { at: line.begin, kind: 'muted', key: '' }))
      keys.key += line.text
      keys.last = line.begin
      keys.text = `${keys.key.length > 1 ? 'keys' : 'key'} ${keys.key}`
    }
    if (line.role !== 'event') continue
    const [kind, text] = event(line.text)
    // A loss is noted when it is over.
    if (kind === 'network')
      found.push({ at: Math.max(0, line.begin - LOSS_S), until: line.begin, kind, text })
    else found.push({ at: line.begin, kind, text })
  }
  for (const one of latency ?? []) {
    const { paused, resumed } = one.at_s ?? {}
    if (resumed === undefined || paused === undefined || one.clock_s === undefined) continue
    const [begin, end] = [paused + one.clock_s - zero, resumed + one.clock_s - zero]
    found.push({
      at: begin,
      until: end,
      kind: 'reversed',
      text: `paused for ${Math.round((end - begin) * 1000)} ms, then went on`,
    })
  }
  return found.sort((a, b) => a.at - b.at)
}
