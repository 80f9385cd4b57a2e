// The page: which view is shown, by the address behind the #.

import * as api from './api.js'
import * as call from './call.js'
import { put } from './dom.js'
import * as feed from './feed.js'
import * as history from './history.js'
import * as live from './live.js'
import * as phone from './phone.js'

const $ = (id) => document.getElementById(id)
let leave = () => {}

function route() {
  if (location.hash.startsWith('#token=')) api.takeFromLink()
  leave()
  const [path, query = ''] = location.hash.replace(/^#\/?/, '').split('?')
  const [view, id] = path.split('/')
  const known = {
    call: () => call.show($('main'), decoded(id ?? '')),
    history: () => history.show($('main'), new URLSearchParams(query)),
  }
  leave = (known[view] ?? (() => live.show($('main'))))() ?? (() => {})
  for (const link of document.querySelectorAll('nav a')) {
    if (link.dataset.view === (known[view] ? view : 'live'))
      link.setAttribute('aria-current', 'page')
    else link.removeAttribute('aria-current')
  }
  scrollTo(0, 0)
}

function decoded(text) {
  try {
    return decodeURIComponent(text)
  } catch {
    return text // by hand, with a stray %
  }
}

function status() {
  const calls = feed.calls.size
  put($('count'), String(calls))
  $('count').hidden = calls === 0
  const text = !feed.status.connected
    ? 'Reconnecting …'
    : feed.status.away
      ? 'nothing can be read'
      : 'Connected'
  put($('link'), text)
  $('link').title = feed.status.away
  $('link').dataset.state = feed.status.connected && !feed.status.away ? 'up' : 'down'
  document.title = calls ? `(${calls}) ari-bridge` : 'ari-bridge'
}

api.takeFromLink()
feed.listen(status)
addEventListener('hashchange', route)
document.querySelector('.skip').addEventListener('click', (e) => {
  e.preventDefault()
  $('main').focus()
})
addEventListener('keydown', (e) => {
  if (e.target.matches('input, select, textarea') || e.ctrlKey || e.metaKey || e.altKey) return
  if (e.key === '/') {
    e.preventDefault()
    location.hash = '#/history'
    setTimeout(() => document.querySelector('.search input')?.focus())
  }
})
route()
feed.run()
phone.setUp()
