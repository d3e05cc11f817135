// How our components ask Python to run the part of the page they are in; read before each component's own script.
// Streamlit makes one message of all that is triggered until its next timer, for one part of the page alone: the others
// would wait for ever. So our components take turns, leave its own widgets room, and ask again what was not answered.
const TURN_MS = 10
const QUIET_MS = 40
const AGAIN_MS = 5000

const pause = (ms) => new Promise((done) => setTimeout(done, ms))

// Call `trigger` when no other component's is on its way.
function inTurn(trigger) {
  const ask = () => void trigger() // whatever becomes of it, the next one's turn comes
  window.vpTurn = (window.vpTurn ?? Promise.resolve()).then(ask).catch(console.error).then(() => pause(TURN_MS))
}

if (!window.vpTouched) {
  window.vpTouched = -QUIET_MS
  for (const event of ["pointerdown", "pointerup", "keydown", "keyup"]) {
    window.addEventListener(event, () => (window.vpTouched = performance.now()), true)
  }
}

// While Python has more to say (data.poll), ask for it after a moment. A later call for the same element takes over.
function poll(element, data, setTriggerValue) {
  let timer
  const ask = async () => {
    if (!element.isConnected) return
    timer = setTimeout(ask, AGAIN_MS)
    while (performance.now() - window.vpTouched < QUIET_MS) await pause(QUIET_MS)
    inTurn(() => setTriggerValue("poll", data.poll))
  }
  element.vpStop?.()
  if (data.poll) timer = setTimeout(ask, data.after_ms)
  element.vpStop = () => clearTimeout(timer)
  return element.vpStop
}
