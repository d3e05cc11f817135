// A plotly figure that follows the slider of its page and the theme of the app. `data.changes` says what changes with
// the slider position (see analysis/live.py); nothing is asked of Python while the thumb moves.
const BUSY_MS = 20

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
    xaxis: axis(layout.xaxis),
    yaxis: axis(layout.yaxis),
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
  let waiting = false
  let gone = false

  const move = (position) => {
    for (const change of data.changes) {
      if (change.frames) {
        window.Plotly.restyle(canvas, { [change.attribute]: [change.frames[position]] }, [change.trace])
      } else {
        const y = change.y.map((value, i) => (change.gone_at[i] <= position ? value : null))
        window.Plotly.restyle(canvas, { y: [y] }, [change.trace])
      }
    }
    canvas.dataset.position = position
  }
  const follow = () => {
    if (waiting) return
    waiting = true
    requestAnimationFrame(() => {
      waiting = false
      if (!gone) move(window.vpSliderPosition)
    })
  }
  const save = (format) => {
    // On paper there is no dark mode: what leaves the page is dark on white.
    const layout = { ...canvas.layout, paper_bgcolor: "#fff", plot_bgcolor: "#fff", font: { color: "#222" } }
    layout.xaxis = { ...layout.xaxis, tickfont: { color: "#222" }, gridcolor: "#ddd" }
    layout.yaxis = { ...layout.yaxis, tickfont: { color: "#222" }, gridcolor: "#ddd" }
    const size = { width: canvas.clientWidth, height: canvas.clientHeight, scale: format === "png" ? 2 : 1 }
    const content = { data: canvas.data, layout, config: {} }
    window.Plotly.downloadImage(content, { format, filename: data.name, ...size })
  }

  plotly().then(async (Plotly) => {
    if (gone) return
    const config = { responsive: true, displaylogo: false, showSendToCloud: false, displayModeBar: false }
    await Plotly.react(canvas, figure.data, themed(figure.layout, root), config)
    if (gone) return
    move(window.vpSliderPosition ?? data.position)
    root.dataset.ready = "yes"
    document.addEventListener("vp_slider_position", follow)
  })
  for (const button of root.querySelectorAll("button")) button.onclick = () => save(button.dataset.format)
  const colours = new MutationObserver(() => {
    if (window.Plotly && canvas.data) window.Plotly.relayout(canvas, themed(canvas.layout, root))
  })
  colours.observe(document.documentElement, { attributes: true, attributeFilter: ["class", "style", "data-theme"] })
  clearTimeout(root.vpPoll)
  if (data.poll) root.vpPoll = setTimeout(() => setTriggerValue("poll", data.poll), data.after_ms)
  return () => {
    gone = true
    clearTimeout(root.vpPoll)
    colours.disconnect()
    document.removeEventListener("vp_slider_position", follow)
  }
}
