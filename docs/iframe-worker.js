// Search for a site opened from disk: browsers do not start a Worker at file://, so a hidden frame runs its script.
if (location.protocol === "file:")
  window.Worker = class {
    constructor(url) {
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      document.documentElement.append(this.frame)
      const inside = this.frame.contentWindow
      inside.postMessage = (data) => setTimeout(() => this.onmessage?.({ data: structuredClone(data) }))
      this.loaded = new Promise((done) => {
        const script = inside.document.createElement("script")
        script.onload = done
        script.onerror = (event) => this.onerror?.(event)
        script.src = url
        inside.document.body.append(script)
      })
    }

    postMessage(data) {
      this.loaded.then(() => this.frame.contentWindow.onmessage?.({ data: structuredClone(data) }))
    }

    terminate() {
      this.frame.remove()
    }
  }
