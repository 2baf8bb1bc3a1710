// The inventory: hosts, namespaces and their Pods, live. Administrators watch the cluster; tenants, who may not
// list it, watch each namespace that the Supervisor says they may use.
import { createEffect, createMemo, createSignal, mapArray, onCleanup } from "solid-js";
import { get, may, session } from "./api/client";
import { sorted, watch } from "./api/watch";
import type { Node, Pod, SupervisorNamespace } from "./model/types";

const PODVISOR = "/apis/podvisor.io/v1alpha1";

export interface Inventory {
  /** Whether the user sees the whole cluster; undefined until that is known. */
  everything: () => boolean | undefined;
  /** Whether the first lists have come. */
  ready: () => boolean;
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
      const all = await may({ verb: "list", resource: "nodes" });
      if (!all) {
        const workloads = await get<{ namespace: string }[]>("/wcp/workloads");
        setMine(workloads.map((workload) => workload.namespace).sort());
      }
      setProblem(undefined);
      setEverything(all);
    } catch (error) {
      setProblem(error instanceof Error ? error.message : String(error));
    }
  };
  createEffect(() => session() && void decide());
  // What one may use can have changed while nobody looked.
  const again = () => document.visibilityState === "visible" && everything() === false && void decide();
  document.addEventListener("visibilitychange", again);
  onCleanup(() => document.removeEventListener("visibilitychange", again));

  const cluster = createMemo(() =>
    everything() === true
      ? {
          nodes: watch<Node>("/api/v1/nodes"),
          supervisorNamespaces: watch<SupervisorNamespace>(`${PODVISOR}/supervisornamespaces`),
          pods: watch<Pod>("/api/v1/pods"),
        }
      : undefined,
  );
  const perNamespace = createMemo(
    mapArray(mine, (name) => ({ name, pods: watch<Pod>(`/api/v1/namespaces/${name}/pods`) })),
  );

  const supervisorNamespaces = createMemo(() => {
    const all = cluster();
    return all ? sorted(all.supervisorNamespaces) : [];
  });
  const allPods = createMemo(() => {
    const all = cluster();
    return all ? sorted(all.pods) : perNamespace().flatMap((entry) => sorted(entry.pods));
  });
  const byNamespace = createMemo(() => {
    const groups = new Map<string, Pod[]>();
    for (const pod of allPods()) {
      const name = pod.metadata.namespace ?? "";
      const group = groups.get(name);
      if (group) group.push(pod);
      else groups.set(name, [pod]);
    }
    return groups;
  });
  /** Administrators see every Supervisor namespace, and plain namespaces as soon as they hold a Pod. */
  const namespaces = createMemo(() => {
    if (!cluster()) return mine();
    return [...new Set([...supervisorNamespaces().map((it) => it.metadata.name ?? ""), ...byNamespace().keys()])].sort();
  });

  return {
    everything,
    problem: () => problem() ?? cluster()?.pods.error ?? perNamespace().find((entry) => entry.pods.error)?.pods.error,
    ready: () => {
      const all = cluster();
      if (all) return all.pods.ready && all.supervisorNamespaces.ready;
      return everything() === false && perNamespace().every((entry) => entry.pods.ready);
    },
    nodes: createMemo(() => {
      const all = cluster();
      return all ? sorted(all.nodes) : [];
    }),
    namespaces,
    supervisorNamespace: (name) => supervisorNamespaces().find((it) => it.metadata.name === name),
    pods: (namespace) => byNamespace().get(namespace) ?? [],
    allPods,
  };
}
