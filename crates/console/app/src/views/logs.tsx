// The log of a container, followed.
import { For, Show, createEffect, createMemo, createSignal, onCleanup } from "solid-js";
import { ApiError, lines, request } from "../api/client";
import type { Pod } from "../model/types";
import { Problem } from "./parts";

/** Lines kept on the page. */
const KEPT = 2000;
/** Lines that were there before, at most. */
const TAIL = 500;
/** How long lines are gathered before they are shown, in milliseconds. */
const GATHER = 60;

export function Logs(props: { pod: Pod }) {
  const containers = () => [...(props.pod.spec?.containers ?? []), ...(props.pod.spec?.initContainers ?? [])].map((it) => it.name);
  const [container, setContainer] = createSignal(containers()[0] ?? "");
  const [text, setText] = createSignal<string[]>([]);
  const [state, setState] = createSignal<"waiting" | "following" | "ended">("waiting");
  const [problem, setProblem] = createSignal<string>();
  let box: HTMLPreElement | undefined;

  // Every run of a container has a log of its own.
  const run = createMemo(() => {
    const statuses = [...(props.pod.status?.containerStatuses ?? []), ...(props.pod.status?.initContainerStatuses ?? [])];
    return statuses.find((status) => status.name === container())?.containerID;
  });
  createEffect(() => {
    const abort = new AbortController();
    onCleanup(() => abort.abort());
    setText([]);
    setProblem(undefined);
    setState("waiting");
    if (!run()) return;
    const { namespace, name } = props.pod.metadata;
    const query = `container=${encodeURIComponent(container())}&follow=true&tailLines=${TAIL}`;
    void follow(`/api/v1/namespaces/${namespace}/pods/${name}/log?${query}`, abort.signal);
  });

  const follow = async (path: string, signal: AbortSignal) => {
    let gathered: string[] = [];
    const show = () => {
      if (signal.aborted || !gathered.length) return;
      const more = gathered;
      gathered = [];
      const atEnd = !box || box.scrollHeight - box.scrollTop - box.clientHeight < 30;
      setText((before) => [...before, ...more].slice(-KEPT));
      // Somebody who scrolled up reads; the text stays where it is.
      if (box && atEnd) box.scrollTop = box.scrollHeight;
    };
    const timer = setInterval(show, GATHER);
    try {
      const response = await request(path, signal, "text/plain, application/json");
      setState("following");
      for await (const line of lines(response)) gathered.push(line);
      setState("ended");
    } catch (error) {
      // A Pod that went away took its log along; the page says so already.
      const gone = error instanceof ApiError && error.code === 404;
      if (!signal.aborted && !gone) setProblem(error instanceof Error ? error.message : String(error));
    } finally {
      clearInterval(timer);
      show();
    }
  };

  return (
    <>
      <div class="pv-bar-of-tools">
        <label class="pv-choice">Container
          <select class="clr-select" value={container()} onChange={(event) => setContainer(event.currentTarget.value)}>
            <For each={containers()}>{(name) => <option>{name}</option>}</For>
          </select>
        </label>
        <span class="pv-quiet" id="log-state">
          {{ waiting: "Waiting for the container to start", following: "Following", ended: "The log has ended" }[state()]}
        </span>
      </div>
      <Problem text={problem()} />
      <pre class="pv-text pv-log" id="log" tabindex="0" ref={(element) => (box = element)}>
        <Show when={text().length} fallback={<span class="pv-quiet">{state() === "waiting" ? "" : "Nothing written yet."}</span>}>{text().join("\n")}</Show>
      </pre>
    </>
  );
}
