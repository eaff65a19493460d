// A streamed chat with one model, kept in this page only.

const form = document.getElementById("say");
if (form) {
  const [talk, text, model, file, send, stop, newChat, pictures, trouble] = [
    "talk", "text", "model", "file", "send", "stop", "new-chat", "pictures", "trouble",
  ].map((id) => document.getElementById(id));
  let messages = []; // of this chat, in the API's format
  let added = []; // data URLs of pictures for the next message
  let running = null; // AbortController of the running answer

  const chosen = () => model.selectedOptions[0];
  const can = (trait) => chosen().dataset.traits.split(" ").includes(trait);

  const showAttach = () => {
    const sees = can("sees") && !can("draws");
    document.getElementById("attach").hidden = !sees;
    file.disabled = !sees;
    if (!sees) clearAdded();
  };
  model.addEventListener("change", showAttach);

  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });

  file.addEventListener("change", async () => {
    for (const each of file.files) {
      if (each.size > Number(form.dataset.maxBytes)) complain(`${each.name} is larger than ${form.dataset.maxBytes} bytes.`);
      else if (added.length >= Number(form.dataset.maxPictures)) complain(`At most ${form.dataset.maxPictures} pictures.`);
      else added.push({ name: each.name, url: await read(each) });
    }
    file.value = "";
    showAdded();
  });

  newChat.addEventListener("click", () => {
    running?.abort();
    messages = [];
    talk.replaceChildren();
    newChat.hidden = true;
    text.focus();
  });
  stop.addEventListener("click", () => running?.abort());

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const said = text.value.trim();
    if (!said || running) return;
    complain("");
    const sent = added;
    const parts = [{ type: "text", text: said }, ...sent.map(({ url }) => ({ type: "image_url", image_url: { url } }))];
    const message = { role: "user", content: sent.length ? parts : said };
    const question = bubble("user", said, sent.map(({ url }) => url));
    text.value = "";
    clearAdded();
    if (await ask(message, said)) return;
    question.remove(); // no answer: put the message back, to be edited and sent again
    text.value = said;
    added = sent;
    showAdded();
  });

  // Returns whether there is an answer, complete or partial.
  async function ask(message, said) {
    const history = messages; // a new chat may begin meanwhile
    const answer = bubble("assistant", "");
    running = new AbortController();
    newChat.hidden = false;
    send.disabled = true;
    stop.hidden = false;
    try {
      if (can("draws")) await draw(said, answer);
      else await chat([...history, message], answer);
    } catch (error) {
      if (error.name === "AbortError") note(answer, "Stopped.");
      else complain(error.message);
    }
    running = null;
    send.disabled = false;
    stop.hidden = true;
    text.focus();
    const answered = answer.body.textContent;
    if (answered) history.push(message, { role: "assistant", content: answered });
    else answer.remove();
    return answered !== "";
  }

  async function chat(history, answer) {
    const began = performance.now();
    const body = { model: model.value, messages: history, stream: true, stream_options: { include_usage: true } };
    const response = await post("/dashboard/playground/chat", body);
    let first = 0;
    let usage = null;
    for await (const event of events(response.body)) {
      if (event.error) throw new Error(event.error.message);
      usage = event.usage ?? usage;
      const delta = event.choices?.[0]?.delta ?? {};
      if (delta.reasoning_content) answer.think(delta.reasoning_content);
      if (delta.content) answer.body.append(delta.content);
      if (delta.annotations) answer.cite(delta.annotations);
      if (!first && (delta.content || delta.reasoning_content)) first = performance.now() - began;
      follow();
    }
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    note(answer, `${model.value} · first delta ${(first / 1000).toFixed(1)} s, total ${seconds} s · about ${usage?.completion_tokens ?? 0} tokens`);
  }

  async function draw(said, answer) {
    const response = await post("/dashboard/playground/draw", { model: model.value, prompt: said, response_format: "b64_json" });
    for (const { b64_json } of (await response.json()).data) answer.picture(`data:image/png;base64,${b64_json}`);
    answer.body.append("(a picture)");
    answer.body.hidden = true;
    note(answer, model.value);
    follow();
  }

  async function post(path, body) {
    const response = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRF-Token": form.dataset.csrf },
      body: JSON.stringify(body),
      signal: running.signal,
    });
    if (!response.ok) throw new Error(await response.text());
    return response;
  }

  // Yields the JSON of each `data:` line until `[DONE]`; throws if the stream ends without it.
  async function* events(body) {
    let rest = "";
    for await (const piece of pieces(body.pipeThrough(new TextDecoderStream()))) {
      const lines = (rest + piece).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (line === "data: [DONE]") return;
        if (line.startsWith("data: ")) yield JSON.parse(line.slice(6));
      }
    }
    throw new Error("The answer broke off.");
  }

  async function* pieces(stream) {
    const reader = stream.getReader();
    for (let read = await reader.read(); !read.done; read = await reader.read()) yield read.value;
  }

  function bubble(role, said, urls = []) {
    document.getElementById("nothing")?.remove();
    const article = document.createElement("article");
    article.className = role;
    article.setAttribute("aria-label", role === "user" ? "You" : model.value);
    const body = document.createElement("div");
    body.className = "said";
    body.append(said);
    article.append(body);
    talk.append(article);
    const made = {
      body,
      remove: () => article.remove(),
      append: (child) => article.append(child),
      picture: (url) => article.append(image(url, role === "user" ? "Your picture" : "A picture by the model")),
      think(piece) {
        let thoughts = article.querySelector("details");
        if (!thoughts) {
          thoughts = document.createElement("details");
          thoughts.append(Object.assign(document.createElement("summary"), { textContent: "Thoughts" }), document.createElement("p"));
          article.prepend(thoughts);
        }
        thoughts.lastChild.append(piece);
      },
      cite(annotations) {
        const list = document.createElement("ul");
        for (const { url_citation: { url, title } } of annotations) {
          if (!/^https?:/.test(url)) continue;
          const link = Object.assign(document.createElement("a"), { href: url, textContent: title || url, rel: "noreferrer", target: "_blank" });
          list.append(Object.assign(document.createElement("li"), { className: "hint" }));
          list.lastChild.append(link);
        }
        article.append(list);
      },
    };
    urls.forEach(made.picture);
    follow();
    return made;
  }

  function note(answer, said) {
    answer.append(Object.assign(document.createElement("p"), { className: "hint", textContent: said }));
  }

  function image(src, alt) {
    return Object.assign(document.createElement("img"), { src, alt });
  }

  function showAdded() {
    pictures.replaceChildren(...added.map(({ url, name }) => image(url, name)));
    pictures.hidden = !added.length;
  }

  function clearAdded() {
    added = [];
    showAdded();
  }

  function complain(said) {
    trouble.textContent = said;
    trouble.hidden = !said;
  }

  function follow() {
    talk.scrollTop = talk.scrollHeight;
  }

  function read(blob) {
    return new Promise((resolve, reject) => {
      const reader = new FileReader();
      reader.onload = () => resolve(reader.result);
      reader.onerror = () => reject(reader.error);
      reader.readAsDataURL(blob);
    });
  }

  showAttach();
}
