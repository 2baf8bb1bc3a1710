// The console, end to end: a real Chromium against a real Supervisor whose Pods are real VMs.
//
// The environment says where and who (see `setting`s below); `crates/e2e/tests/console.rs` starts the Lab and sets it.
// With PODVISOR_E2E_PICTURES, a directory, the README's pictures are written there.
import path from "node:path";
import { Theatre, Wire, expect, kubectl, setting, until } from "./harness.mjs";

const namespace = setting("PODVISOR_E2E_NAMESPACE");
const manifest = setting("PODVISOR_E2E_MANIFEST");
const users = JSON.parse(setting("PODVISOR_E2E_USERS"));
const pictures = process.env.PODVISOR_E2E_PICTURES;
const PODS = 6;
/** Six VMs boot under emulation on two busy cores, in milliseconds. */
const BOOT = 240_000;

const wire = await Wire.to(setting("PODVISOR_E2E_URL"));
const theatre = await Theatre.open(wire.url, setting("PODVISOR_E2E_OUTPUT"));
const step = (name, work) => theatre.step(name, work);
let admin, alice, bob;
let pods = [];

try {
  await step("a wrong password is refused with a message", async () => {
    alice = await theatre.enter("alice");
    alice.expected.push(/401/);
    await alice.signIn(users.alice.name, "not-the-password");
    await alice.sees("[role=alert]", "Wrong user name or password");
    expect(!(await alice.page.locator(".pv-tree").count()), "the inventory is shown without sign-in");
    expect(!(await alice.page.evaluate(() => sessionStorage.length)), "a session is kept without sign-in");
  });
  alice.expected.length = 0;

  await step("alice signs in and sees her namespace, empty", async () => {
    await alice.signIn(users.alice.name, users.alice.password);
    await alice.sees("#user", users.alice.name);
    await alice.sees(`.pv-tree [data-namespace="${namespace}"]`, namespace);
    expect((await alice.podsInTree(namespace)).length === 0, "there are Pods before apply");
    const other = await alice.page.locator(".pv-tree [data-namespace]").evaluateAll((all) => all.map((it) => it.dataset.namespace));
    expect(other.join() === namespace, `alice sees ${other.join()}`);
    expect(!(await alice.page.locator(".pv-tree [data-host]").count()), "a tenant sees hosts");
    await alice.page.click(`.pv-tree [data-namespace="${namespace}"] a`);
    await alice.sees(".content-area", "No Pod VMs");
  });

  await step("administrator signs in and sees host and namespace", async () => {
    admin = await theatre.enter("administrator");
    await admin.signIn(users.administrator.name, users.administrator.password);
    await admin.sees(".pv-tree [data-host]", /\S/);
    await admin.sees(`.pv-tree [data-namespace="${namespace}"]`, namespace);
    await admin.page.click(`.pv-tree [data-namespace="${namespace}"] a`);
    await admin.sees("h1", namespace);
  });

  await step("Pods appear live after kubectl apply, without a reload", async () => {
    for (const person of [alice, admin]) await person.page.evaluate(() => void (window.neverReloaded = true));
    await kubectl("apply", "-n", namespace, "-f", manifest);
    for (const person of [alice, admin]) {
      await until(`six Pods in ${person.name}'s tree`, async (saw) => {
        const names = await person.podsInTree(namespace);
        saw(names.join());
        return names.length === PODS;
      });
    }
    pods = await admin.podsInTree(namespace);
    for (const [prefix, count] of [["frontend-", 3], ["redis-master-", 1], ["redis-slave-", 2]]) {
      expect(pods.filter((name) => name.startsWith(prefix)).length === count, `${count} ${prefix}* in ${pods.join()}`);
    }
    await admin.shows(() => admin.podsInTable(), pods);
  });

  await step("all six become Running, live", async () => {
    for (const person of [alice, admin]) {
      await person.sees("#pod-phases", `${PODS} Running`, BOOT);
      await until(`green icons in ${person.name}'s tree`, async () =>
        (await person.page.locator(`.pv-tree [data-namespace="${namespace}"] [data-pod] .pv-state-success`).count()) === PODS, BOOT);
      expect(await person.page.evaluate(() => window.neverReloaded === true), "the page was reloaded");
    }
  });

  await step("namespace: status, permissions, limits and usage", async () => {
    await admin.sees("#namespace-state", "Active");
    await admin.sees(`#permissions [data-subject="${users.alice.name}"]`, "Can edit");
    await admin.sees(`#permissions [data-subject="${users.bob.name}"]`, "Can view");
    await alice.sees(`#permissions [data-subject="${users.alice.name}"]`, "Can edit");
    for (const person of [alice, admin]) {
      await person.sees('[data-meter="cpu"]', /3 CPU of 4 CPU[\s\S]*[\d.]+ CPU in use now/);
      await person.sees('[data-meter="memory"]', /3 GiB of 4 GiB[\s\S]*[\d.]+ [MG]iB in use now/);
      await person.sees('[data-meter="storage"]', "of 20 GiB");
      await person.sees("#external", /frontend: \d+\.\d+\.\d+\.\d+/);
    }
    // What each VM uses stands in the table, measured.
    await until("usage of all VMs", async (saw) => {
      const rows = await admin.texts("#pods tr[data-pod]");
      saw(rows.join(" | "));
      return rows.length === PODS && rows.every((row) => /[\d.]+ CPU of 1 vCPU/.test(row) && /[\d.]+ MiB of 576 MiB/.test(row));
    });
  });

  if (pictures) {
    await step("the README's pictures", async () => {
      await admin.page.mouse.move(170, 850);
      for (const [name, button] of [["light", null], ["dark", "#theme"]]) {
        if (button) await admin.page.click(button);
        await admin.page.mouse.move(170, 850);
        await admin.page.evaluate(() => document.fonts.ready.then(() => document.activeElement?.blur()));
        await admin.page.screenshot({ path: path.join(pictures, `console-${name}.png`), animations: "disabled" });
      }
      await admin.page.click("#theme");
    });
  }

  await step("namespace: workloads, network, events", async () => {
    await admin.tab("Workloads");
    await admin.sees("#deployments", /frontend[\s\S]*3 of 3/);
    await admin.tab("Network");
    await admin.sees("#services", /frontend[\s\S]*LoadBalancer/);
    await admin.tab("Events");
    await admin.sees("#events", "Container started");
    await admin.tab("Monitor");
    await moving(admin, "#usage-cpu");
  });

  await step("what is not there is said", async () => {
    await admin.go("/namespaces/nowhere");
    await admin.sees("#namespace-gone", "not there");
    await admin.go(`/namespaces/${namespace}/no-such-pod`);
    await admin.sees("#pod-gone", "not there");
    await admin.go("/hosts/nobody");
    await admin.sees("main", "This host is not there");
    await admin.go("/");
    await admin.sees("#running", `${PODS} running of ${PODS}`);
  });

  await step("a host shows its state, capacity and VMs", async () => {
    await admin.page.click(".pv-tree [data-host] a");
    await admin.sees("#host-state", "Ready");
    await admin.sees('[data-meter="cpu"]', /of [\d.]+ CPU/);
    await admin.sees('[data-meter="pod-vms"]', `${PODS} of`);
    await until("six VMs in the host's list", async (saw) => {
      const names = await admin.podsInTable();
      saw(names.join());
      return names.length === PODS;
    });
  });

  const pod = () => pods.find((name) => name.startsWith("frontend-"));
  /** A Pod whose image has a shell. */
  const shell = () => pods.find((name) => name.startsWith("redis-slave-"));
  await step("Pod VM: phase, host, IP, containers, vCPU, memory", async () => {
    const object = JSON.parse(await kubectl("get", "pod", "-n", namespace, pod(), "-o", "json"));
    for (const person of [alice, admin]) {
      await person.page.click(`.pv-tree [data-pod="${pod()}"] a`);
      await person.sees("#phase", "Running");
      await person.sees("#host", object.spec.nodeName);
      await person.sees("#pod-ip", object.status.podIP);
      await person.sees("#vcpus", /^1$/);
      await person.sees("#memory", "576 MiB");
      const container = object.spec.containers[0];
      await person.sees(`#containers [data-container="${container.name}"]`, /Running/);
      await person.sees(`#containers [data-container="${container.name}"]`, container.image);
    }
  });

  await step("Pod VM: the CPU and memory charts move", async () => {
    for (const person of [alice, admin]) {
      await person.tab("Monitor");
      await moving(person, "#usage-cpu");
      await moving(person, "#usage-memory");
      await person.sees("#usage-memory", /VM [\d.]+ MiB/);
    }
  });

  await step("Pod VM: events", async () => {
    await alice.tab("Events");
    for (const reason of ["Scheduled", "Pulled", "Created", "Started"]) await alice.sees(`#events [data-reason="${reason}"]`, reason);
  });

  await step("Pod VM: log, followed", async () => {
    await alice.tab("Logs");
    const first = (await kubectl("logs", "-n", namespace, pod())).split("\n")[0];
    await alice.sees("#log", first);
    await alice.sees("#log-state", "Following");
    // A request to the page inside the VM is one more line of its log.
    const lines = (await alice.text("#log")).split("\n").length;
    await kubectl("get", "--raw", `/api/v1/namespaces/${namespace}/pods/${pod()}:80/proxy/?console-e2e`);
    await until("one more line", async (saw) => {
      const now = (await alice.text("#log")).split("\n");
      saw(now.slice(-3).join(" | "));
      return now.length > lines;
    });
  });

  await step("Pod VM: a terminal in its container", async () => {
    await alice.page.click(`.pv-tree [data-pod="${shell()}"] a`);
    await alice.tab("Terminal");
    await alice.sees("#terminal-state", "Connected");
    const types = async (line, answer) => {
      await alice.page.keyboard.type(`${line}\n`);
      await alice.sees("#terminal .xterm-rows", answer);
    };
    await types("echo in $(hostname)", `in ${shell()}`);
    // The size of the terminal is the container's to know.
    await types("stty size", /\b[3-9]\d \d{2,3}\b/);
    if (pictures) {
      await types("clear; uname -a; free -m; ps | head", "COMMAND");
      await alice.page.screenshot({ path: path.join(pictures, "console-terminal.png"), animations: "disabled" });
    }
    await types("exit 3", "exit 3");
    await alice.sees("#terminal-state", "exit code 3");
    await alice.page.click("#terminal-again");
    await alice.sees("#terminal-state", "Connected");
    await alice.page.click(`.pv-tree [data-pod="${pod()}"] a`);
    await alice.tab("Logs");
  });

  await step("Pod VM: YAML", async () => {
    const uid = (await kubectl("get", "pod", "-n", namespace, pod(), "-o", "jsonpath={.metadata.uid}")).trim();
    await alice.tab("YAML");
    await alice.sees("#yaml", "apiVersion: v1\nkind: Pod\nmetadata:");
    await alice.sees("#yaml", uid);
    await alice.sees("#yaml", "phase: Running");
  });

  await step("an address leads to the same page and tab again", async () => {
    await alice.page.reload();
    await alice.sees("#yaml", "kind: Pod");
    await alice.page.goBack();
    await alice.sees("#log-state", "Following");
  });

  await step("the tree is walked with the arrow keys", async () => {
    const focused = () => alice.page.evaluate(() => document.activeElement?.textContent?.trim());
    const focusOn = (wanted) => until(`the focus on ${wanted}`, async (saw) => {
      saw(await focused());
      return (await focused()) === wanted;
    });
    await alice.page.focus(`.pv-tree [data-namespace="${namespace}"] a`);
    await alice.page.keyboard.press("ArrowDown");
    await focusOn(pods[0]);
    await alice.page.keyboard.press("ArrowLeft");
    await focusOn(namespace);
    await alice.shows(() => alice.podsInTree(namespace), []);
    await alice.page.keyboard.press("ArrowRight");
    await alice.shows(() => alice.podsInTree(namespace), pods);
  });

  await step("a lost connection is said, and mended by itself", async () => {
    await alice.tab("Summary");
    for (const person of [alice, admin]) person.expected.push(/net::ERR_/);
    wire.cut();
    for (const person of [alice, admin]) {
      await person.sees("main [role=alert]", "does not answer");
      expect((await person.podsInTree(namespace)).length === PODS, "the inventory is forgotten meanwhile");
    }
    wire.mend();
    for (const person of [alice, admin]) {
      await until("the message to go", async () => !(await person.page.locator("main [role=alert]").count()), BOOT);
    }
    await moving(alice, "#small-cpu");
    for (const person of [alice, admin]) person.expected.length = 0;
  });

  await step("the dark theme is kept over a reload", async () => {
    const theme = () => alice.page.evaluate(() => document.documentElement.getAttribute("cds-theme"));
    const background = () => alice.page.evaluate(() => getComputedStyle(document.querySelector(".content-area")).backgroundColor);
    const light = await background();
    expect((await theme()) === "light", `the theme is ${await theme()}`);
    await alice.page.click("#theme");
    await until("the dark theme", async () => (await theme()) === "dark");
    await until("another background", async () => (await background()) !== light);
    await alice.page.reload();
    await alice.sees("h1", pod());
    await until("the dark theme after the reload", async () => (await theme()) === "dark");
  });

  await step("bob may view: he sees the same and is offered no action", async () => {
    bob = await theatre.enter("bob", "dark");
    await bob.signIn(users.bob.name, users.bob.password);
    await bob.page.click(`.pv-tree [data-namespace="${namespace}"] a`);
    await bob.sees(`#permissions [data-subject="${users.bob.name}"]`, "Can view");
    await bob.shows(() => bob.podsInTree(namespace), pods);
    await bob.page.click(`.pv-tree [data-pod="${pod()}"] a`);
    for (const tab of ["Summary", "Monitor", "Events", "Logs", "Terminal", "YAML"]) {
      await bob.tab(tab);
      const offered = (await bob.texts("button:visible, [role=button]:visible, input:visible")).filter((text) => /delete|edit|create|scale|restart|stop|apply|save/i.test(text));
      expect(offered.length === 0, `bob is offered ${offered.join()}`);
      if (tab === "Terminal") await bob.sees("main", "No terminal for you here");
    }
    expect((await bob.page.evaluate(() => document.documentElement.getAttribute("cds-theme"))) === "dark", "the system's preference is not followed");
  });

  await step("Pods vanish live after kubectl delete", async () => {
    await admin.page.click(`.pv-tree [data-namespace="${namespace}"] a`);
    for (const person of [alice, admin, bob]) await person.page.evaluate(() => void (window.neverReloaded = true));
    await kubectl("delete", "-n", namespace, "-f", manifest, "--wait=false");
    await admin.sees("#pod-phases", /Terminating|none/);
    for (const person of [alice, admin, bob]) {
      await until(`no Pod in ${person.name}'s tree`, async (saw) => {
        const names = await person.podsInTree(namespace);
        saw(names.join());
        return names.length === 0;
      }, BOOT);
      expect(await person.page.evaluate(() => window.neverReloaded === true), "the page was reloaded");
    }
    await admin.sees(".content-area", "No Pod VMs");
    // Whoever looked at one of them is told.
    await bob.sees("#pod-gone", "not there");
  });

  await step("signing out ends it", async () => {
    await alice.page.click("#sign-out");
    await alice.page.waitForSelector("#password");
    expect(!(await alice.page.evaluate(() => sessionStorage.length)), "the session is kept");
    await alice.page.reload();
    await alice.page.waitForSelector("#password");
    await alice.go(`/namespaces/${namespace}`);
    await alice.page.waitForSelector("#password");
    expect(!(await alice.page.locator(".pv-tree").count()), "the inventory is still shown");
  });
  console.log(`${theatre.steps} steps hold`);
} catch (error) {
  console.error(error.stack);
  process.exitCode = 1;
} finally {
  await theatre.close();
  wire.close();
}

/** Waits until a chart has several points, gets more, and its picture changes. */
async function moving(person, chart) {
  const points = async () => Number(await person.page.getAttribute(chart, "data-points", { timeout: 5000 }));
  const picture = () => person.page.locator(`${chart} canvas`).evaluate((canvas) => canvas.toDataURL());
  await until(`points in ${chart}`, async (saw) => {
    saw(await points());
    return (await points()) >= 3;
  });
  const [before, image] = [await points(), await picture()];
  await until(`more points in ${chart}`, async (saw) => {
    saw(await points());
    return (await points()) >= before + 3 && (await picture()) !== image;
  });
}
