// Give the page an image: drop, paste, choose or camera. What shows the answer waits for it with takeImages.
"use strict";

// Every image given is sent, and its answer is handed to show; forget clears the last one, and say tells what goes on.
function takeImages({ forget, show, say }) {
  const at = (id) => document.getElementById(id);
  const place = at("ask"), stage = at("stage");
  let given = 0; // images so far: an answer that comes after another image was given is no longer wanted

  async function send(file) {
    const mine = ++given;
    say("Asking …", "quiet");
    forget();
    try {
      const answer = await fetch(place.dataset.ask, { method: "POST", body: file, headers: { "X-Convscope-Token": token } });
      const found = await answer.json();
      if (mine !== given) return;
      if (answer.ok) show(found, file.name); else say(found.error, "bad");
    } catch (error) { if (mine === given) say(`The page does not answer: ${error.message}`, "bad"); }
  }

  at("file").addEventListener("change", (event) => { if (event.target.files[0]) send(event.target.files[0]); event.target.value = ""; }); // the same file may be given again
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      stage.classList.toggle("over", kind === "dragover");
      if (kind === "drop" && event.dataTransfer.files[0]) send(event.dataTransfer.files[0]);
    });
  }
  document.addEventListener("paste", (event) => { const file = [...event.clipboardData.files][0]; if (file) send(file); });

  at("camera").addEventListener("click", async () => {
    const video = at("video");
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      video.srcObject = stream;
      await video.play();
      const shot = document.createElement("canvas");
      shot.width = video.videoWidth; shot.height = video.videoHeight;
      shot.getContext("2d").drawImage(video, 0, 0);
      stream.getTracks().forEach((track) => track.stop());
      shot.toBlob((blob) => blob && send(blob), "image/png");
    } catch (error) { say(`There is no camera to use: ${error.message}`, "bad"); }
  });
}

// A row of the list of answers: a name, a bar of a share of 1, and what stands beside it.
function barRow(label, share, words) {
  const row = document.createElement("li"), name = document.createElement("bdi"), told = document.createElement("span");
  const bar = document.createElementNS("http://www.w3.org/2000/svg", "svg"), rect = document.createElementNS(bar.namespaceURI, "rect");
  bar.setAttribute("viewBox", "0 0 100 10"); bar.setAttribute("preserveAspectRatio", "none"); bar.setAttribute("aria-hidden", "true");
  rect.setAttribute("width", 100 * share); rect.setAttribute("height", 10); bar.append(rect);
  name.textContent = label; told.textContent = words;
  row.append(name, bar, told);
  return row;
}
