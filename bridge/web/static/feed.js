// What goes on now: follows GET /v1/live (server-sent events, read by fetch, which can name the
// token) and keeps the picture. Listeners are told which calls have changed.

import { ask } from './api.js'

const AGAIN_MS = [300, 1000, 2000, 5000]

export const calls = new Map()
export let workers = []
export const status = { connected: false, away: '' }
const listeners = new Set()

// listener({ changed: Set of ids, gone: [ids], levels: {id: [caller, agent]}, all: bool, workers: bool })
export function listen(listener) {
  listeners.add(listener)
  return () => listeners.delete(listener)
}

const tell = (news) => listeners.forEach((listener) => listener(news))

function call(id) {
  if (!calls.has(id)) calls.set(id, { id, lines: [], level: [0, 0] })
  return calls.get(id)
}

function take(message) {
  const news = {
    changed: new Set(),
    gone: message.gone ?? [],
    levels: message.levels ?? {},
    all: Boolean(message.all),
    workers: false,
  }
  if (message.all) calls.clear()
  for (const [id, fields] of Object.entries(message.calls ?? {})) {
    Object.assign(call(id), fields)
    news.changed.add(id)
  }
  for (const [id, lines] of Object.entries(message.lines ?? {})) {
    call(id).lines.push(...lines)
    news.changed.add(id)
  }
  for (const [id, level] of Object.entries(news.levels))
    if (calls.has(id)) calls.get(id).level = level
  for (const id of news.gone) calls.delete(id)
  if (message.workers) {
    workers = message.workers
    news.workers = true
  }
  if (message.away !== undefined) status.away = message.away
  tell(news)
}

async function read() {
  const answer = await ask('/v1/live', { headers: { Accept: 'text/event-stream' } })
  status.connected = true
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ''
  for (;;) {
    const { value, done } = await reader.read()
    if (done) return
    const parts = (rest + value).split('\n\n')
    rest = parts.pop()
    for (const part of parts) if (part.startsWith('data: ')) take(JSON.parse(part.slice(6)))
  }
}

export async function run() {
  for (let tries = 0; ; tries += 1) {
    const began = Date.now()
    try {
      await read()
    } catch (error) {
      console.info('the live feed:', error.message)
    }
    if (Date.now() - began > 10_000) tries = 0
    status.connected = false
    tell({ changed: new Set(), gone: [], levels: {}, all: false, workers: false })
    await new Promise((resolve) =>
      setTimeout(resolve, AGAIN_MS[Math.min(tries, AGAIN_MS.length - 1)]),
    )
  }
}
