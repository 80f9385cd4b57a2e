// Asks the API. The token is the user's: given once, kept as long as the tab lives.
// A link may carry it in its fragment (#token=…, and &to=… for a view), which no server sees; it is
// taken out at once.

const KEY = 'ari-bridge.token'

export function takeFromLink() {
  const found = /^#token=([^&]+)(?:&to=(.*))?/.exec(location.hash)
  if (!found) return
  sessionStorage.setItem(KEY, decodeURIComponent(found[1]))
  history.replaceState(null, '', location.pathname + '#' + (found[2] || '/'))
}

export const token = () => sessionStorage.getItem(KEY) ?? ''
export const setToken = (text) => sessionStorage.setItem(KEY, text)

export class Refused extends Error {
  constructor(status, code, reason) {
    super(reason)
    this.status = status
    this.code = code
  }
}

let asking = null

// Shows the dialog until a token is given; all who wait get the same one.
function askForToken(wrong) {
  asking ??= new Promise((resolve) => {
    const dialog = document.getElementById('ask')
    const input = document.getElementById('ask-token')
    document.getElementById('ask-wrong').textContent = wrong
    input.value = ''
    dialog.addEventListener('cancel', (event) => event.preventDefault())
    dialog.addEventListener(
      'close',
      () => {
        setToken(input.value.trim())
        asking = null
        resolve()
      },
      { once: true },
    )
    dialog.showModal()
  })
  return asking
}

// A Response of the API, whoever has to be asked for a token first. Throws Refused, or TypeError
// where the API can't be reached.
export async function ask(path, options = {}) {
  for (;;) {
    const given = token()
    if (!given) {
      await askForToken('')
      continue
    }
    const headers = { ...options.headers, Authorization: `Bearer ${given}` }
    const answer = await fetch(path, { ...options, headers })
    if (answer.ok) return answer
    const body = await answer.json().catch(() => ({}))
    if (answer.status !== 401)
      throw new Refused(answer.status, body.error, body.reason ?? answer.statusText)
    if (token() === given) await askForToken('That token does not hold here.')
  }
}

export const get = async (path, options) => (await ask(path, options)).json()

// The subprotocol by which a WebSocket names the token (it can carry no header of ours).
export function tokenProtocol() {
  const bytes = String.fromCharCode(...new TextEncoder().encode(token()))
  return (
    'ari-bridge.token.' + btoa(bytes).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '')
  )
}
