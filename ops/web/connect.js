// The page /connect: connect a bank, register the item, and show how its rows arrive.
"use strict";

const POLL_INTERVAL_MS = 300;

const byId = (id) => document.getElementById(id);
const settings = byId("connect").dataset;

function show(id, text) {
  byId(id).textContent = text;
}

// The JSON of an answer; an error has the sentence that says why.
async function call(method, path, body) {
  const headers = { "X-CSRF-Token": settings.csrf };
  if (byId("token")) headers.Authorization = `Bearer ${byId("token").value}`;
  if (body) headers["Content-Type"] = "application/json";
  const reply = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
  const answer = await reply.json();
  if (reply.status === 401) throw new Error("Enter the token of OPS_TOKEN.");
  if (!reply.ok) throw new Error(answer.detail);
  return answer;
}

function userId() {
  return (byId("user") && byId("user").value) || "me";
}

// What a person does in the widget, with the simulator.
async function simulate(connectorId) {
  const again = { itemId: settings.item };
  const asked = settings.item ? again : { connectorId, clientUserId: userId() };
  return (await call("POST", "/connect/simulated", asked)).itemId;
}

// The id of the item once the person has connected it.
async function openWidget() {
  if (!window.PluggyConnect) {
    throw new Error("Pluggy's widget could not be loaded from cdn.pluggy.ai.");
  }
  const asked = { clientUserId: userId() };
  if (settings.item) asked.itemId = settings.item;
  const { accessToken } = await call("POST", "/v1/connect-tokens", asked);
  return new Promise((connected, failed) => {
    const widget = new window.PluggyConnect({
      connectToken: accessToken,
      includeSandbox: true,
      updateItem: settings.item || undefined,
      onSuccess: ({ item }) => connected(item.id),
      // The person may try again: only closing the widget ends it.
      onError: ({ message }) => show("error", `Pluggy: ${message}`),
      onClose: () => failed(new Error(byId("error").textContent || "The widget was closed.")),
    });
    Promise.resolve(widget.init()).catch(failed);
  });
}

async function connect(connectorId) {
  show("error", "");
  show("state", "Connecting …");
  try {
    const before = settings.item && (await progressOf(settings.item)).last_updated_at;
    const itemId = settings.simulator ? await simulate(connectorId) : await openWidget();
    await call("POST", "/v1/items", { itemId });
    await follow(itemId, before);
  } catch (error) {
    show("state", "");
    show("error", error.message);
  }
}

function progressOf(itemId) {
  return call("GET", `/connect/items/${itemId}`);
}

// Until there is nothing more to read. before: when Pluggy had collected the item last, which is
// older than what was connected again.
async function follow(itemId, before) {
  for (;;) {
    const item = await progressOf(itemId);
    const isAnnounced = !before || item.last_updated_at !== before;
    draw(itemId, item);
    if (!isAnnounced) show("state", "Connected. Waiting for the webhook of its new data …");
    if (isAnnounced && item.state === "idle") return;
    await new Promise((passed) => setTimeout(passed, POLL_INTERVAL_MS));
  }
}

function draw(itemId, item) {
  const total = Object.values(item.rows).reduce((sum, rows) => sum + rows, 0);
  const isFresh = item.light === "green";
  const ended = isFresh ? "Everything is fresh" : "Read, but not everything is fresh";
  show("state", item.state === "idle" ? `${ended}: ${total} rows.` : `Reading: ${total} rows so far.`);
  byId("table").hidden = item.products.length === 0;
  byId("products").replaceChildren(...lines(item));
  const query = `SELECT * FROM pluggy_live.transactions WHERE item_id = '${itemId}'`;
  show("next", item.rows.transactions ? query : "");
}

// A line for each product; one that is read by account is fresh when all of them are.
function lines(item) {
  const found = new Map();
  for (const { product, state, reason } of item.products) {
    const before = found.get(product);
    if (!before || before.state === "fresh") found.set(product, { state, reason });
  }
  return [...found].map(([product, { state, reason }]) => {
    const line = document.createElement("tr");
    line.dataset.product = product;
    line.dataset.state = state;
    const shown = reason ? `${state} (${reason})` : state;
    const rows = product === "items" ? "" : item.rows[product] || 0;
    for (const text of [product, shown, rows]) {
      line.append(Object.assign(document.createElement("td"), { textContent: text }));
    }
    return line;
  });
}

for (const bank of document.querySelectorAll("button.bank")) {
  bank.addEventListener("click", () => connect(Number(bank.dataset.connector)));
}
if (byId("open")) byId("open").addEventListener("click", () => connect());
