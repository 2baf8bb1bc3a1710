// An object as YAML, without what servers keep for themselves, as kubectl shows it.
import { For, createMemo, createSignal } from "solid-js";
import type { KubeObject } from "../model/types";
import { parts, toYaml } from "../model/yaml";

export function Yaml(props: { object: KubeObject }) {
  const text = createMemo(() => {
    const { managedFields: _, ...metadata } = props.object.metadata as Record<string, unknown>;
    return toYaml({ ...props.object, metadata });
  });
  const [copied, setCopied] = createSignal(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text());
    setCopied(true);
  };
  return (
    <>
      <div class="pv-bar-of-tools">
        <button type="button" class="btn btn-sm btn-outline" onClick={() => void copy()}>{copied() ? "Copied" : "Copy"}</button>
        <span class="pv-quiet">Live; changes appear as they happen.</span>
      </div>
      <pre class="pv-text pv-yaml" id="yaml" tabindex="0"><For each={text().split("\n")}>{(line) => {
        const [before, key, after] = parts(line);
        return <>{before}<span class="pv-yaml-key">{key}</span>{after}{"\n"}</>;
      }}</For></pre>
    </>
  );
}
