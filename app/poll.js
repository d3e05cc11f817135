// Asks Python again after a moment, while it has more to say (data.poll). Shows nothing.
export default function (component) {
  const { data, setTriggerValue } = component
  const poll = data.poll && setTimeout(() => setTriggerValue("poll", data.poll), data.after_ms)
  return () => clearTimeout(poll)
}
