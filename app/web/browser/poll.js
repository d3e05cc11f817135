// Asks Python again after a moment, while it has more to say (data.poll). Shows nothing. Where it is told what position of the
// slider its fragment shows (data.position), it asks when the slider was released at another, after the slider has told Python.
export default function ({ data, parentElement, setTriggerValue }) {
  const element = parentElement.querySelector("span")
  element.vpLeave?.()
  const released = ({ detail }) => {
    if (detail !== data.position) poll(element, { poll: `released ${detail} ${Date.now()}`, after_ms: QUIET_MS }, setTriggerValue)
  }
  if (data.position !== null) document.addEventListener("vp_slider_released", released)
  poll(element, data, setTriggerValue)
  element.vpLeave = () => {
    element.vpStop?.()
    document.removeEventListener("vp_slider_released", released)
  }
  return element.vpLeave
}
