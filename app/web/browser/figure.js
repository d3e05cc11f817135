// A plotly figure that follows the slider of its page and the theme of the app. `data.changes` says what changes with
// the slider position (see analysis/live.py); nothing is asked of Python while the thumb moves.
const BUSY_MS = 20

// All axes of a layout, each changed: xaxis, yaxis2, …
function axes(layout, change) {
  const names = Object.keys(layout).filter((name) => /^[xy]axis\d*$/.test(name))
  return Object.fromEntries(names.map((name) => [name, change(layout[name])]))
}

function themed(layout, element) {
  const style = getComputedStyle(element)
  const text = style.getPropertyValue("--st-text-color").trim() || style.color
  const grid = style.getPropertyValue("--st-border-color").trim() || "rgba(128,128,128,0.3)"
  const font = style.getPropertyValue("--st-font").trim() || "sans-serif"
  const axis = (a) => ({ ...a, gridcolor: grid, zerolinecolor: grid, linecolor: grid, tickfont: { color: text } })
  return {
    ...layout,
    template: undefined,
    autosize: true,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: text, family: font },
    ...axes(layout, axis),
    hoverlabel: { namelength: -1 },
  }
}

async function plotly() {
  while (!window.Plotly) await new Promise((wait) => setTimeout(wait, BUSY_MS))
  return window.Plotly
}

export default function (component) {
  const { data, parentElement, setTriggerValue } = component
  const root = parentElement.querySelector(".vp-figure")
  const canvas = root.querySelector(".vp-canvas")
  const figure = data.figure
  root.vpLeave?.() // this function runs again for new data: what the last run listened to is stale
  let drawing = false
  let gone = false

  // One redraw for all that changes in one attribute.
  const move = async (position) => {
    const values = {}
    for (const change of data.changes) {
      const attribute = change.attribute ?? "y"
      const value = change.frames
        ? change.frames[position]
        : change.y.map((y, i) => (change.gone_at[i] <= position ? y : null))
      values[attribute] ??= { values: [], traces: [] }
      values[attribute].values.push(value)
      values[attribute].traces.push(change.trace)
    }
    for (const [attribute, change] of Object.entries(values)) {
      await window.Plotly.restyle(canvas, { [attribute]: change.values }, change.traces)
    }
    canvas.dataset.position = position
  }
  const inSight = () => {
    const box = canvas.getBoundingClientRect()
    return box.bottom > 0 && box.top < window.innerHeight
  }
  // Positions that come while a drawing is under way are left out, but for the last one. A figure that nobody sees
  // waits until it is scrolled into sight.
  const follow = async () => {
    if (drawing || gone || window.vpSliderPosition === undefined || !inSight()) return
    drawing = true
    do {
      await new Promise(requestAnimationFrame)
      if (!gone) await move(window.vpSliderPosition)
    } while (!gone && inSight() && Number(canvas.dataset.position) !== window.vpSliderPosition)
    drawing = false
  }
  const save = (format) => {
    // On paper there is no dark mode: what leaves the page is dark on white.
    const light = (axis) => ({ ...axis, tickfont: { color: "#222" }, gridcolor: "#ddd" })
    const paper = { paper_bgcolor: "#fff", plot_bgcolor: "#fff", font: { color: "#222" }, sliders: [], updatemenus: [] }
    const layout = { ...canvas.layout, ...axes(canvas.layout, light), ...paper }
    const size = { width: canvas.clientWidth, height: canvas.clientHeight, scale: format === "png" ? 2 : 1 }
    const content = { data: canvas.data, layout, config: {} }
    window.Plotly.downloadImage(content, { format, filename: data.name, ...size })
  }

  plotly().then(async (Plotly) => {
    if (gone) return
    const config = { responsive: true, displaylogo: false, showSendToCloud: false, displayModeBar: false }
    const frames = figure.frames ?? [] // pictures of a film, with a slider of its own
    // Most polls bring the same figure again: drawn once, it stays. The colours are those of the theme it is drawn in.
    const shown = { data: figure.data, layout: themed(figure.layout, root), config, frames }
    const same = JSON.stringify([shown, data.changes])
    if (canvas.vpShown !== same) {
      await Plotly.react(canvas, shown)
      canvas.vpShown = same
      delete canvas.dataset.position
    }
    if (gone) return
    const position = window.vpSliderPosition ?? data.position
    if (Number(canvas.dataset.position ?? NaN) !== Number(position)) await move(position)
    root.dataset.ready = "yes"
    document.addEventListener("vp_slider_position", follow)
    sight.observe(canvas)
  })
  for (const button of root.querySelectorAll("button")) button.onclick = () => save(button.dataset.format)
  const sight = new IntersectionObserver(follow)
  const colours = new MutationObserver(() => {
    if (window.Plotly && canvas.data) window.Plotly.relayout(canvas, themed(canvas.layout, root))
  })
  colours.observe(document.documentElement, { attributes: true, attributeFilter: ["class", "style", "data-theme"] })
  const stop = poll(root, data, setTriggerValue)
  root.vpLeave = () => {
    gone = true
    stop()
    colours.disconnect()
    sight.disconnect()
    document.removeEventListener("vp_slider_position", follow)
  }
  return root.vpLeave
}
