// Small things that every view needs.

// An element: h('p.note', { title: '…' }, 'text', child). Handlers by their names (onclick).
export function h(what, attributes = {}, ...children) {
  const [tag, ...classes] = what.split('.')
  const element = document.createElement(tag || 'div')
  if (classes.length) element.className = classes.join(' ')
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value)
    else element.setAttribute(name, value === true ? '' : value)
  }
  element.append(
    ...children.flat().filter((child) => child !== null && child !== undefined && child !== false),
  )
  return element
}

// How loud somebody is, 0 to 100.
export function meter(label, kind) {
  const bar = h('i')
  const element = h(
    `div.meter.${kind}`,
    {
      role: 'meter',
      'aria-label': label,
      'aria-valuemin': 0,
      'aria-valuemax': 100,
      'aria-valuenow': 0,
    },
    bar,
  )
  const set = (value) => {
    bar.style.transform = `scaleX(${value / 100})`
    element.setAttribute('aria-valuenow', value)
  }
  return { element, set }
}

const SVG = 'http://www.w3.org/2000/svg'

export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag)
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value)
  element.append(...children)
  return element
}

// Sets a text only where it has changed: a screen reader says it again otherwise.
export function put(element, text) {
  if (element.textContent !== text) element.textContent = text
}

export function span(seconds) {
  const s = Math.max(0, Math.floor(seconds))
  const [hours, minutes] = [Math.floor(s / 3600), Math.floor(s / 60) % 60]
  const rest = String(s % 60).padStart(2, '0')
  return hours ? `${hours}:${String(minutes).padStart(2, '0')}:${rest}` : `${minutes}:${rest}`
}

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: 'medium' })
const day = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' })

export const timeOfDay = (at) => clock.format(at * 1000)
export const when = (at) => day.format(at * 1000)

export const who = (call) => call.caller || 'unknown number'

// How the line is, by the estimated opinion (MOS).
export function quality(audio) {
  const marks = [audio?.mos, audio?.caller?.mos, audio?.caller?.mos_there].filter((x) => x > 0)
  if (!marks.length) return null
  const mos = Math.min(...marks)
  const lost = Math.max(
    audio.loss_percent ?? 0,
    audio.caller?.loss_percent ?? 0,
    audio.caller?.loss_percent_there ?? 0,
  )
  const word = mos >= 4 ? 'good' : mos >= 3.1 ? 'fair' : 'poor'
  return { mos, lost, word }
}

// What an event of a transcript is, for the eye: a class, and a word.
export function event(text) {
  if (text === 'barge-in') return ['cut', 'interrupted']
  if (text === 'taken over') return ['takeover', 'another worker took over']
  if (text === 'hold') return ['hold', 'on hold']
  if (text === 'resume') return ['hold', 'back from hold']
  if (/^lost \d/.test(text)) return ['network', text]
  return ['other', text]
}

export function reversed(latency) {
  return (latency ?? []).filter((one) => one.interruption_ms?.resumed !== undefined)
}

export const losses = (lines) =>
  (lines ?? []).filter((line) => line.role === 'event' && event(line.text)[0] === 'network').length

export const takeovers = (lines) =>
  (lines ?? []).filter((line) => line.role === 'event' && line.text === 'taken over').length
