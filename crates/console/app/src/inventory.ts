// The inventory: hosts, namespaces and their Pods, live. Administrators watch the cluster; tenants, who may not
// list it, watch each namespace that the Supervisor says they may use.
import { createEffect, createRoot, createSignal, mapArray, onCleanup } from "solid-js";
import { ApiError, get, request, session } from "./api/client";
import { sorted, watch, type Live } from "./api/watch";
import type { Node, Pod, SupervisorNamespace } from "./model/types";

const PODVISOR = "/apis/podvisor.io/v1alpha1";

export interface Inventory {
  /** Whether the user sees the whole cluster. */
  everything: () => boolean | undefined;
  nodes: () => Node[];
  namespaces: () => string[];
  supervisorNamespace: (name: string) => SupervisorNamespace | undefined;
  pods: (namespace: string) => Pod[];
  allPods: () => Pod[];
  problem: () => string | undefined;
}

export function createInventory(): Inventory {
  const [everything, setEverything] = createSignal<boolean>();
  const [mine, setMine] = createSignal<string[]>([]);
  const [problem, setProblem] = createSignal<string>();

  const decide = async () => {
    try {
      await request("/api/v1/nodes?limit=1");
      setEverything(true);
    } catch (error) {
      if (!(error instanceof ApiError) || error.code !== 403) {
        setProblem(error instanceof Error ? error.message : String(error));
        return;
      }
      const workloads = await get<{ namespace: string }[]>("/wcp/workloads");
      setMine(workloads.map((workload) => workload.namespace).sort());
      setEverything(false);
    }
  };
  createEffect(() => session() && void decide());

  const whole = createLive(() => everything() === true, () => ({
    nodes: watch<Node>("/api/v1/nodes"),
    supervisorNamespaces: watch<SupervisorNamespace>(`${PODVISOR}/supervisornamespaces`),
    pods: watch<Pod>("/api/v1/pods"),
  }));
  const perNamespace = mapArray(mine, (name) => ({ name, pods: watch<Pod>(`/api/v1/namespaces/${name}/pods`) }));

  const podsOf = (live: Live<Pod> | undefined, namespace: string) =>
    live ? sorted(live).filter((pod) => pod.metadata.namespace === namespace) : [];
  return {
    everything,
    problem,
    nodes: () => (whole() ? sorted(whole()!.nodes) : []),
    namespaces: () =>
      whole() ? sorted(whole()!.supervisorNamespaces).map((ns) => ns.metadata.name ?? "") : mine(),
    supervisorNamespace: (name) =>
      whole() && sorted(whole()!.supervisorNamespaces).find((ns) => ns.metadata.name === name),
    pods: (namespace) =>
      whole()
        ? podsOf(whole()!.pods, namespace)
        : podsOf(perNamespace().find((entry) => entry.name === namespace)?.pods, namespace),
    allPods: () =>
      whole() ? sorted(whole()!.pods) : perNamespace().flatMap((entry) => sorted(entry.pods)),
  };
}

/** Makes something that lives while a condition holds. */
function createLive<T>(condition: () => boolean, make: () => T): () => T | undefined {
  const [value, setValue] = createSignal<T>();
  createEffect(() => {
    if (!condition()) return;
    createRoot((dispose) => {
      setValue(() => make());
      onDispose(dispose);
    });
  });
  let release: (() => void) | undefined;
  const onDispose = (dispose: () => void) => {
    release = dispose;
  };
  createEffect(() => {
    if (condition()) return;
    release?.();
    release = undefined;
    setValue(undefined);
  });
  onCleanup(() => release?.());
  return value;
}
