// A shell in a container: the terminal of `kubectl exec -it`, in the page.
import "@xterm/xterm/css/xterm.css";
import { For, Show, createEffect, createResource, createSignal, on, onCleanup } from "solid-js";
import { may } from "../api/client";
import { exec, type Ending, type Process } from "../api/exec";
import type { Pod } from "../model/types";
import { Empty, Problem } from "./parts";

/** The best shell that the image has. */
const SHELL = ["sh", "-c", "command -v bash >/dev/null && exec bash || exec sh"];
/** Lines that can be scrolled back to. */
const SCROLLBACK = 5000;
const COLOURS = { background: "#0e1a23", foreground: "#d5e2ea", cursor: "#4dbeee", selectionBackground: "#2d6a8c" };

/** The emulator is larger than the rest of the console; only who opens a terminal loads it. */
const load = () => Promise.all([import("@xterm/xterm"), import("@xterm/addon-fit")]);

export function TerminalTab(props: { pod: Pod }) {
  const namespace = () => props.pod.metadata.namespace ?? "";
  const [allowed] = createResource(namespace, (namespace) => may({ verb: "create", resource: "pods", subresource: "exec", namespace }));
  return (
    <Show when={allowed() !== undefined}>
      <Show when={allowed()} fallback={<Empty title="No terminal for you here" hint={`It needs the right to edit ${namespace()}; you may view it.`} />}>
        <Session pod={props.pod} />
      </Show>
    </Show>
  );
}

function Session(props: { pod: Pod }) {
  const running = () =>
    [...(props.pod.status?.containerStatuses ?? []), ...(props.pod.status?.initContainerStatuses ?? [])]
      .filter((status) => status.state?.running)
      .map((status) => status.name);
  const [container, setContainer] = createSignal(running()[0] ?? "");
  const [state, setState] = createSignal<"opening" | "open" | Ending>("opening");
  const [attempt, setAttempt] = createSignal(0);
  let box: HTMLDivElement | undefined;

  // Opened while the Pod was starting.
  createEffect(() => {
    if (!container()) setContainer(running()[0] ?? "");
  });
  createEffect(on([container, attempt], () => {
    setState("opening");
    if (!container() || !box) return;
    let stopped = false;
    let stop = () => {};
    onCleanup(() => {
      stopped = true;
      stop();
    });
    void load().then(([{ Terminal }, { FitAddon }]) => {
      if (stopped || !box) return;
      const terminal = new Terminal({
        cursorBlink: true, scrollback: SCROLLBACK, theme: COLOURS, fontSize: 13, fontFamily: "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace",
      });
      const fit = new FitAddon();
      terminal.loadAddon(fit);
      terminal.open(box);
      fit.fit();
      const { namespace, name } = props.pod.metadata;
      let process: Process | undefined = exec(
        { namespace: namespace ?? "", pod: name ?? "", container: container(), command: SHELL },
        (bytes) => terminal.write(bytes),
        () => {
          setState("open");
          process?.resize(terminal.cols, terminal.rows);
          terminal.focus();
        },
        (how) => {
          process = undefined;
          if (!stopped) setState(how);
        },
      );
      terminal.onData((text) => process?.write(text));
      terminal.onResize(({ cols, rows }) => process?.resize(cols, rows));
      const watcher = new ResizeObserver(() => fit.fit());
      watcher.observe(box);
      stop = () => {
        watcher.disconnect();
        process?.close();
        terminal.dispose();
      };
    });
  }));

  const ended = () => {
    const now = state();
    return typeof now === "string" ? undefined : now;
  };
  return (
    <Show when={running().length || container()} fallback={<Empty title="No container runs" hint="A terminal opens in a running container." />}>
      <div class="pv-bar-of-tools">
        <label class="pv-choice">Container
          <select class="clr-select" value={container()} onChange={(event) => setContainer(event.currentTarget.value)}>
            <For each={[...new Set([...running(), container()])]}>{(name) => <option>{name}</option>}</For>
          </select>
        </label>
        <span class="pv-quiet" id="terminal-state">{ended()?.text ?? { opening: "Opening", open: "Connected" }[state() as "opening" | "open"]}</span>
        <Show when={ended()}><button class="btn btn-sm" id="terminal-again" onClick={() => setAttempt((count) => count + 1)}>Open again</button></Show>
      </div>
      <Problem text={ended()?.good === false ? ended()?.text : undefined} />
      <div class="pv-terminal" id="terminal" ref={(element) => (box = element)} />
    </Show>
  );
}
