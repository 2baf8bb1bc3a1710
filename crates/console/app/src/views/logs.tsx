// The log of a container, followed.
import { For, createEffect, createSignal, onCleanup } from "solid-js";
import { lines, request } from "../api/client";
import { Problem } from "./parts";

/** Lines kept on the page. */
const KEPT = 2000;

export function Logs(props: { namespace: string; pod: string; containers: string[] }) {
  const [container, setContainer] = createSignal(props.containers[0] ?? "");
  const [text, setText] = createSignal<string[]>([]);
  const [problem, setProblem] = createSignal<string>();
  let box: HTMLPreElement | undefined;

  createEffect(() => {
    const abort = new AbortController();
    onCleanup(() => abort.abort());
    setText([]);
    setProblem(undefined);
    const query = `container=${encodeURIComponent(container())}&follow=true&tailLines=500`;
    void follow(`/api/v1/namespaces/${props.namespace}/pods/${props.pod}/log?${query}`, abort.signal);
  });

  const follow = async (path: string, signal: AbortSignal) => {
    try {
      for await (const line of lines(await request(path, signal, "text/plain, application/json"))) {
        setText((before) => [...before.slice(-(KEPT - 1)), line]);
        if (box) box.scrollTop = box.scrollHeight;
      }
    } catch (error) {
      if (!signal.aborted) setProblem(error instanceof Error ? error.message : String(error));
    }
  };

  return (
    <>
      <label class="pv-choice">Container{" "}
        <select class="clr-select" value={container()} onChange={(event) => setContainer(event.currentTarget.value)}>
          <For each={props.containers}>{(name) => <option>{name}</option>}</For>
        </select>
      </label>
      <Problem text={problem()} />
      <pre class="pv-text pv-log" id="log" ref={(element) => (box = element)}>{text().join("\n")}</pre>
    </>
  );
}
