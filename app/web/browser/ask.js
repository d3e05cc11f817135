// How our components ask Python to run the fragment they are in again; read before each component's own script.
// Streamlit collects what is triggered until its next timer into one message, and a message reruns one fragment only; the
// triggers of the others are dropped. So our components trigger one after another, keep quiet just after a click or a key,
// when Streamlit's own widgets send, and repeat after a while what got no answer.
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

// While Python has more to say (data.poll), ask for it after a moment, and again until there are new data. A later call for
// the same element takes over; it ends with the element.
function poll(element, data, setTriggerValue) {
  let timer
  let stopped = false
  const ask = () => {
    timer = setTimeout(ask, AGAIN_MS)
    inTurn(() => {
      if (!stopped && element.isConnected && performance.now() - window.vpTouched >= QUIET_MS) {
        setTriggerValue("poll", data.poll)
        return
      }
      clearTimeout(timer)
      if (!stopped && element.isConnected) timer = setTimeout(ask, QUIET_MS)
    })
  }
  element.vpStop?.()
  if (data.poll) timer = setTimeout(ask, data.after_ms)
  element.vpStop = () => {
    stopped = true
    clearTimeout(timer)
  }
  return element.vpStop
}
