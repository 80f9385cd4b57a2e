// In the place of api.js where a call's page was saved as one file: answers with what is in it.

const answers = JSON.parse(document.getElementById('saved').textContent)
export const id = answers[''].id

export class Refused extends Error {
  constructor(status, code, reason) {
    super(reason)
    this.status = status
    this.code = code
  }
}

// What stands behind the call's own path; how fine its waveforms are was settled when it was saved.
const known = (path) => path.replace(/^\/v1\/calls\/[^/]+\/?/, '').replace(/&per_s=\d+$/, '')
const absent = () => new Refused(404, 'not-found', 'it is not in this file')

export async function get(path) {
  const found = answers[known(path)]
  if (found === undefined) throw absent()
  return found
}

// Nothing but sounds is asked for in this way.
export async function ask(path) {
  const part = /^recording\?part=(\d+)$/.exec(known(path))?.[1]
  const sound = document.getElementById(`sound-${part}`)
  if (!sound) throw absent()
  const bytes = Uint8Array.from(atob(sound.textContent), (letter) => letter.charCodeAt(0))
  return new Response(bytes, { headers: { 'Content-Type': sound.dataset.kind } })
}
