// Asks Python again after a moment, while it has more to say (data.poll). Shows nothing.
export default function ({ data, parentElement, setTriggerValue }) {
  return poll(parentElement.querySelector("span"), data, setTriggerValue)
}
