// The sparsity slider. While the thumb moves it tells the figures on this page (slider_position event) and nobody else;
// on release it tells Python, and
// the parts that are of one position only (slider_released event). While Python has more to say soon (data.poll), it asks again.
export default function (component) {
  const { data, parentElement, setStateValue, setTriggerValue } = component
  const root = parentElement.querySelector(".vp-slider")
  const input = root.querySelector("input")
  const output = root.querySelector("output")
  root.querySelector("label span").textContent = data.label

  const show = (position) => {
    output.textContent = `${position} %`
    window.vpSliderPosition = position
    document.dispatchEvent(new CustomEvent("vp_slider_position", { detail: position }))
  }
  // Python's value wins only when it is news: never pull the thumb from under a finger.
  if (root.dataset.told !== String(data.position)) {
    root.dataset.told = String(data.position)
    if (!root.dataset.dragging) {
      input.value = data.position
      show(Number(data.position))
    }
  }
  input.oninput = () => {
    root.dataset.dragging = "yes"
    show(Number(input.value))
  }
  input.onchange = () => {
    delete root.dataset.dragging
    root.dataset.told = input.value
    const position = Number(input.value) // now: the thumb may have moved on when the turn comes
    inTurn(() => setStateValue("position", position))
    document.dispatchEvent(new CustomEvent("vp_slider_released", { detail: position }))
  }
  return poll(root, data, setTriggerValue)
}
