// Browsers start no workers for pages opened from disk; there, the search runs in a hidden frame.
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(url) {
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.append(this.frame);
      this.inside = this.frame.contentWindow;
      this.ready = new Promise((done) => {
        const inner = this.inside.document;
        inner.open();
        this.inside.postMessage = (data) => this.told(structuredClone(data));
        this.inside.loaded = done;
        inner.write(`<script src="${url}" onload="loaded()"></script>`);
        inner.close();
      });
    }

    postMessage(message) {
      const data = structuredClone(message);
      const event = () => new this.inside.MessageEvent("message", { data });
      this.ready.then(() => this.inside.dispatchEvent(event()));
    }

    told(data) {
      setTimeout(() => this.onmessage?.({ data }));
    }

    terminate() {
      this.frame.remove();
    }
  };
}
