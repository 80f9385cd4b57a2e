// Plays a recording of one or more parts as one: each lies at its place in the call's time, and
// what lies between them is silence that takes as long as it took.

const EDGE_S = 0.02 // so close to its end a part is over

// parts: [{ at, seconds, load }] in order, s; load() gives its sound as a Blob, or null where it
// can't be had. changed() is told when it begins or ends to play.
export function player(parts, seconds, changed) {
  const sound = new Audio()
  const urls = new Map()
  let [position, rate, turn, timer] = [0, 1, 0, 0]
  let [playing, part, silentSince] = [false, null, null]

  const lies = (at) => parts.findLast((one) => one.at <= at && at < one.at + one.seconds - EDGE_S)
  const next = (at) => parts.find((one) => one.at > at)?.at ?? seconds

  function now() {
    if (silentSince !== null)
      return Math.min(
        position + ((performance.now() - silentSince) / 1000) * rate,
        next(position),
      )
    return part ? Math.min(part.at + sound.currentTime, seconds) : position
  }

  async function address(one) {
    if (!urls.has(one))
      urls.set(
        one,
        one.load().then((blob) => blob && URL.createObjectURL(blob)),
      )
    try {
      return await urls.get(one)
    } catch (error) {
      urls.delete(one) // it may be had the next time
      throw error
    }
  }

  // Stands at `position`, and nothing sounds.
  function rest() {
    turn += 1
    position = now()
    clearTimeout(timer)
    ;[part, silentSince] = [null, null]
    sound.pause()
  }

  function tell(on) {
    if (playing === on) return
    playing = on
    changed()
  }

  function silence(until) {
    silentSince = performance.now()
    timer = setTimeout(() => go(until), ((until - position) / rate) * 1000)
  }

  async function go(from) {
    rest()
    position = from
    const mine = turn
    if (position >= seconds - EDGE_S) return tell(false)
    tell(true)
    try {
      const one = lies(position)
      if (!one) return silence(next(position))
      const url = await address(one)
      if (mine !== turn) return
      if (!url) return silence(Math.min(one.at + one.seconds, next(position)))
      if (sound.src !== url) sound.src = url
      sound.currentTime = position - one.at
      sound.defaultPlaybackRate = sound.playbackRate = rate
      part = one
      await sound.play()
    } catch (error) {
      if (mine !== turn || error.name === 'AbortError') return // stopped before it began
      rest()
      tell(false)
      throw error
    }
  }

  sound.addEventListener('ended', () => {
    if (part) go(Math.max(part.at + part.seconds, part.at + sound.currentTime))
  })

  return {
    now,
    get playing() {
      return playing
    },
    play: () => go(position >= seconds - EDGE_S ? 0 : position),
    pause() {
      rest()
      tell(false)
    },
    // Stand there; goes on from there if it played.
    async seek(to) {
      const on = playing
      rest()
      position = to
      if (on) await go(to)
    },
    playFrom: go,
    speed(factor) {
      const at = now()
      rate = factor
      sound.defaultPlaybackRate = sound.playbackRate = rate
      if (silentSince !== null) go(at)
    },
    close() {
      rest()
      for (const url of urls.values()) url.then((one) => one && URL.revokeObjectURL(one), () => {})
    },
  }
}
