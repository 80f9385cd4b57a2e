// The telephone: JsSIP (vendor/) speaks SIP with Asterisk through the API's WebSocket; the audio goes
// straight between browser and Asterisk (DTLS-SRTP, Opus).

import { get, tokenProtocol } from './api.js'
import { meter } from './dom.js'

const $ = (id) => document.getElementById(id)
const KEYS = '123456789*0#'
const METER_MS = 66
const FLOOR_DB = -60

let account = null
let ua = null
let session = null
let watching = 0
const loud = { mine: meter('Your level', 'caller'), theirs: meter('Agent’s level', 'agent') }

// What JsSIP wants of a socket, on a WebSocket that names our token.
class Line {
  constructor(domain) {
    this.url = new URL('/v1/phone/sip', location.href.replace(/^http/, 'ws')).href
    this.sip_uri = `sip:${domain};transport=ws`
    this.via_transport = 'WSS'
  }
  connect() {
    if (this.socket) return
    const socket = (this.socket = new WebSocket(this.url, ['sip', tokenProtocol()]))
    socket.onopen = () => this.onconnect()
    socket.onmessage = ({ data }) => this.ondata(data)
    socket.onclose = ({ code, reason }) => {
      if (this.socket !== socket) return
      this.socket = null
      this.ondisconnect(code !== 1000, code, reason)
    }
  }
  disconnect() {
    this.socket?.close(1000)
    this.socket = null
  }
  send(message) {
    if (this.socket?.readyState !== WebSocket.OPEN) return false
    this.socket.send(message)
    return true
  }
  isConnected() {
    return this.socket?.readyState === WebSocket.OPEN
  }
  isConnecting() {
    return this.socket?.readyState === WebSocket.CONNECTING
  }
}

// Shows the button where the API has a telephone for us.
export async function setUp() {
  try {
    account = await get('/v1/phone')
  } catch {
    return // there is none
  }
  $('phone-open').hidden = false
  $('phone-number').value = account.number
  $('phone-mic').append(loud.mine.element)
  $('phone-ear').append(loud.theirs.element)
  $('phone-open').addEventListener('click', () => show($('phone').hidden))
  $('phone-close').addEventListener('click', () => show(false))
  $('phone').addEventListener('keydown', pressed)
  $('phone-form').addEventListener('submit', (event) => {
    event.preventDefault()
    dial($('phone-number').value.trim())
  })
  $('phone-hangup').addEventListener('click', () => session?.terminate())
  $('phone-mute').addEventListener('click', mute)
  for (const key of KEYS) {
    const button = document.createElement('button')
    button.type = 'button'
    button.textContent = key
    button.addEventListener('click', () => press(key))
    document.querySelector('.keypad').append(button)
  }
  addEventListener('pagehide', () => session?.terminate())
}

export function show(open) {
  $('phone').hidden = !open
  $('phone-open').setAttribute('aria-expanded', String(open))
  ;(open ? $('phone-call') : $('phone-open')).focus()
}

function pressed(event) {
  if (event.key === 'Escape') show(false)
  else if (session && event.target !== $('phone-number') && KEYS.includes(event.key))
    press(event.key)
}

function press(key) {
  if (session?.isEstablished()) session.sendDTMF(key, { transportType: 'RFC2833' })
}

function mute() {
  const on = !session?.isMuted().audio
  if (on) session?.mute({ audio: true })
  else session?.unmute({ audio: true })
  $('phone-mute').setAttribute('aria-pressed', String(on))
}

function load(source) {
  return new Promise((resolve, reject) => {
    const script = document.createElement('script')
    script.src = source
    script.onload = resolve
    script.onerror = () => reject(new Error('a part of the page is missing'))
    document.head.append(script)
  })
}

async function connect() {
  if (!globalThis.JsSIP) await load('/static/vendor/jssip.min.js')
  ua = new JsSIP.UA({
    sockets: [new Line(account.domain)],
    uri: `sip:${account.user}@${account.domain}`,
    authorization_user: account.user,
    password: account.password,
    register: false, // it calls; nobody calls it
    session_timers: false,
  })
  ua.start()
  await new Promise((resolve, reject) => {
    ua.once('connected', resolve)
    ua.once('disconnected', () => reject(new Error('the way to Asterisk is closed')))
  }).catch((error) => {
    hangOff()
    throw error
  })
}

// Nobody calls it: between two calls it needs no connection. (What is still to be said is said.)
function hangOff() {
  ua?.stop()
  ua = null
}

async function dial(number) {
  if (session) return
  state('Connecting …', 'busy')
  let microphone
  try {
    if (!navigator.mediaDevices)
      throw new Error('a browser gives its microphone to https pages only')
    microphone = await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true },
    })
    await connect()
  } catch (error) {
    microphone?.getTracks().forEach((track) => track.stop())
    over(error.name === 'NotAllowedError' ? 'The microphone was not allowed' : error.message)
    return
  }
  session = ua.call(`sip:${encodeURIComponent(number)}@${account.domain}`, {
    mediaStream: microphone,
    pcConfig: { iceServers: [] },
    eventHandlers: {
      progress: () => state('Ringing …', 'busy'),
      accepted: () => state('Connecting …', 'busy'),
      ended: ({ cause }) =>
        over(
          cause === 'Terminated' ? 'The call is over' : `The call is over: ${cause}`,
          microphone,
        ),
      failed: ({ cause }) =>
        over(cause === 'Canceled' ? 'Ready' : `It could not be called: ${cause}`, microphone),
    },
  })
  session.connection.addEventListener('track', ({ streams }) => {
    $('phone-audio').srcObject = streams[0]
    if (!watching) talking(microphone, streams[0])
  })
  buttons()
}

function talking(microphone, agent) {
  const began = Date.now()
  $('phone-talk').hidden = false
  const context = new AudioContext()
  const mine = analyser(context, microphone)
  const theirs = analyser(context, agent)
  const look = () => {
    const s = Math.floor((Date.now() - began) / 1000)
    state(`Talking  ${Math.floor(s / 60)}:${String(s % 60).padStart(2, '0')}`, 'talking')
    loud.mine.set(level(mine))
    loud.theirs.set(level(theirs))
  }
  watching = setInterval(look, METER_MS)
  session.once('ended', () => context.close())
  look()
  $('phone-hangup').focus()
}

function analyser(context, stream) {
  const node = context.createAnalyser()
  node.fftSize = 1024
  context.createMediaStreamSource(stream).connect(node)
  return { node, samples: new Float32Array(node.fftSize) }
}

function level({ node, samples }) {
  node.getFloatTimeDomainData(samples)
  const power = samples.reduce((sum, x) => sum + x * x, 0) / samples.length
  return Math.round(100 * Math.min(1, Math.max(0, 1 - (10 * Math.log10(power + 1e-9)) / FLOOR_DB)))
}

function over(text, microphone) {
  clearInterval(watching)
  watching = 0
  microphone?.getTracks().forEach((track) => track.stop())
  session = null
  hangOff()
  $('phone-talk').hidden = true
  $('phone-mute').setAttribute('aria-pressed', 'false')
  state(text, 'ready')
  buttons()
}

function buttons() {
  $('phone-call').hidden = Boolean(session)
  $('phone-hangup').hidden = !session
  $('phone-number').readOnly = Boolean(session)
}

function state(text, kind) {
  if ($('phone-state').textContent !== text) $('phone-state').textContent = text
  $('phone').dataset.state = kind
}
