// What the end-to-end test stands on: a real Chromium, people with a page each, one wait with a deadline, kubectl.
//
// Every page is watched: an error on its console, an answer that is an error, a connection that breaks, or a request
// that would change something fails the test, unless the step said beforehand that it expects it.
import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import net from "node:net";
import path from "node:path";
import { promisify } from "node:util";
import { chromium } from "playwright-core";

/** How long a condition may take that only needs the console and the API server, in milliseconds. */
export const SOON = 60_000;
const VIEWPORT = { width: 1440, height: 900 };
const ARGUMENTS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
];
/** The two requests that are no reads and change nothing: signing in, and asking what one may do. */
const HARMLESS_POSTS = ["/podvisor/session", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"];

const run = promisify(execFile);

/** A setting from the environment; the error names it. */
export function setting(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set; crates/e2e/tests/console.rs sets it`);
  return value;
}

/** Runs kubectl as the developer; returns what it printed. */
export async function kubectl(...words) {
  const [program, ...first] = JSON.parse(setting("PODVISOR_E2E_KUBECTL"));
  const { stdout } = await run(program, [...first, ...words], { maxBuffer: 16 << 20 });
  return stdout;
}

/** Calls `look` until it returns something true; fails with what it last saw. `look` only reads. */
export async function until(what, look, limit = SOON) {
  const end = Date.now() + limit;
  let seen = "nothing";
  for (;;) {
    try {
      const value = await look((text) => (seen = text));
      if (value) return value;
    } catch (error) {
      seen = error.message;
    }
    if (Date.now() > end) throw new Error(`${what}: not within ${limit / 1000} s; last seen: ${seen}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

export function expect(condition, message) {
  if (!condition) throw new Error(message);
}

/** The wire between the browsers and the Supervisor, which can be cut and mended. */
export class Wire {
  sockets = new Set();
  whole = true;

  static async to(url) {
    const wire = new Wire();
    const { hostname, port, pathname } = new URL(url);
    wire.server = net.createServer((client) => {
      if (!wire.whole) return client.destroy();
      const server = net.connect(Number(port), hostname);
      for (const [one, other] of [[client, server], [server, client]]) {
        wire.sockets.add(one);
        // Whatever ends one side ends the other; a cut is no fault of the test.
        one.on("error", () => other.destroy());
        one.on("close", () => { wire.sockets.delete(one); other.destroy(); });
        one.pipe(other);
      }
    });
    wire.server.listen(0, "127.0.0.1");
    await once(wire.server, "listening");
    wire.url = `https://127.0.0.1:${wire.server.address().port}${pathname}`;
    return wire;
  }

  cut() {
    this.whole = false;
    for (const socket of this.sockets) socket.destroy();
  }

  mend() {
    this.whole = true;
  }

  close() {
    this.cut();
    this.server.close();
  }
}

/** The browser, and a person for each name asked for. */
export class Theatre {
  people = new Map();
  steps = 0;

  static async open(base, output) {
    const theatre = new Theatre();
    theatre.base = base;
    theatre.output = output;
    await mkdir(output, { recursive: true });
    // Playwright gives every browser it launches a fresh profile of its own.
    theatre.browser = await chromium.launch({ executablePath: "/usr/bin/chromium", headless: true, args: ARGUMENTS });
    return theatre;
  }

  /** A person with an own profile, at the console's front door. */
  async enter(name, colorScheme = "light") {
    const context = await this.browser.newContext({ ignoreHTTPSErrors: true, viewport: VIEWPORT, colorScheme });
    context.setDefaultTimeout(SOON);
    context.setDefaultNavigationTimeout(SOON);
    const person = new Person(name, await context.newPage(), this.base);
    this.people.set(name, person);
    await person.page.goto(this.base);
    return person;
  }

  /** One checked step: prints its name, and fails for what any page has complained of meanwhile. */
  async step(name, work) {
    const began = Date.now();
    try {
      await work();
      for (const person of this.people.values()) person.complain();
    } catch (error) {
      console.error(`FAILED ${name}: ${error.message}`);
      await this.report();
      throw error;
    }
    this.steps += 1;
    console.log(`ok     ${name} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
  }

  /** A picture of each page and what its console said. */
  async report() {
    for (const person of this.people.values()) {
      const file = path.join(this.output, `failed-${person.name.replace(/\W+/g, "-")}.png`);
      await person.page.screenshot({ path: file }).catch((error) => console.error(`no picture: ${error.message}`));
      console.error(`       ${person.name} at ${person.page.url()}, picture: ${file}`);
      for (const line of person.log) console.error(`       ${person.name}: ${line}`);
    }
  }

  async close() {
    await this.browser.close();
  }
}

class Person {
  log = [];
  faults = [];
  expected = [];

  constructor(name, page, base) {
    Object.assign(this, { name, page, base });
    const fault = (text) => {
      this.log.push(text);
      if (!this.expected.some((pattern) => pattern.test(text))) this.faults.push(text);
    };
    page.on("console", (message) => {
      const text = `console ${message.type()}: ${message.text().slice(0, 500)} (${message.location().url})`;
      if (message.type() === "error" || message.type() === "warning") fault(text);
      else this.log.push(text);
    });
    page.on("pageerror", (error) => fault(`exception: ${error.stack ?? error.message}`));
    page.on("requestfailed", (request) => {
      // The console itself ends its streams when a page is left.
      if (request.failure()?.errorText !== "net::ERR_ABORTED") fault(`failed: ${request.method()} ${request.url()}: ${request.failure()?.errorText}`);
    });
    page.on("response", (response) => {
      if (response.status() >= 400) fault(`answer ${response.status()}: ${response.request().method()} ${response.url()}`);
    });
    page.on("request", (request) => {
      const harmless = request.method() === "GET" || (request.method() === "POST" && HARMLESS_POSTS.includes(new URL(request.url()).pathname));
      if (!harmless) fault(`a request that writes: ${request.method()} ${request.url()}`);
    });
  }

  /** Fails for what happened on the page that no step expected. */
  complain() {
    const faults = this.faults.splice(0);
    if (faults.length) throw new Error(`${this.name}'s page: ${faults.join("; ")}`);
  }

  async signIn(user, password) {
    await this.page.fill("#username", user);
    await this.page.fill("#password", password);
    await this.page.click("button[type=submit]");
  }

  /** Goes to a place by its address, as with a bookmark. */
  async go(place) {
    await this.page.goto(`${this.base}${place}`);
  }

  async tab(name) {
    await this.page.click(`[role=tab]:has-text("${name}")`);
  }

  /** The text of an element; empty while it is not there. */
  async text(selector) {
    const element = this.page.locator(selector).first();
    return (await element.count()) ? (await element.innerText({ timeout: 1000 })).trim() : "";
  }

  async texts(selector) {
    return (await this.page.locator(selector).allInnerTexts()).map((text) => text.trim());
  }

  /** Waits for text in an element. */
  async sees(selector, pattern, limit) {
    return until(`${this.name} sees ${pattern} in ${selector}`, async (saw) => {
      const text = await this.text(selector);
      saw(`"${text.slice(0, 400)}"`);
      return (typeof pattern === "string" ? text.includes(pattern) : pattern.test(text)) && text;
    }, limit);
  }

  /** Waits until the tree below a namespace, or the table, shows just these Pods. */
  async shows(where, names, limit) {
    return until(`${this.name} sees ${names.join() || "no Pod"} there`, async (saw) => {
      const found = await where();
      saw(found.join());
      return found.join() === names.join();
    }, limit);
  }

  /** Names of the Pods in the tree below a namespace. */
  podsInTree(namespace) {
    return this.page.locator(`.pv-tree [data-namespace="${namespace}"] [data-pod]`).evaluateAll((items) => items.map((item) => item.dataset.pod));
  }

  async podsInTable() {
    return this.page.locator("#pods tr[data-pod]").evaluateAll((rows) => rows.map((row) => row.dataset.pod));
  }
}
