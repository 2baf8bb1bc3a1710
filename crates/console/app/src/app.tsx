// The frame: sign-in or header, inventory tree and the page of the chosen thing.
import { Match, Show, Switch } from "solid-js";
import { session, unreachable } from "./api/client";
import { createInventory } from "./inventory";
import { place } from "./router";
import { Header } from "./views/header";
import { HostPage } from "./views/host";
import { InventoryTree } from "./views/tree";
import { Login } from "./views/login";
import { NamespacePage } from "./views/namespace";
import { Problem } from "./views/parts";
import { PodPage } from "./views/pod";
import { SupervisorPage } from "./views/supervisor";

export function App() {
  return (
    <Show when={session()?.token} fallback={<Login />}>
      <Signed />
    </Show>
  );
}

function Signed() {
  const inventory = createInventory();
  const at = place;
  const problem = () =>
    unreachable() ? "The Supervisor does not answer; what you see may be old. Trying again…" : inventory.problem();
  return (
    <div class="main-container">
      <Header />
      <div class="content-container">
        <InventoryTree inventory={inventory} />
        <main class="content-area">
          <Problem text={problem()} />
          <Show when={inventory.ready()} fallback={<Show when={!problem()}><p class="pv-loading"><span class="spinner spinner-inline" /> Loading the inventory…</p></Show>}>
            <Switch>
              <Match when={at().page === "supervisor"}><SupervisorPage inventory={inventory} /></Match>
              <Match when={pick(at(), "host")} keyed>{(it) => <HostPage inventory={inventory} name={it.name} />}</Match>
              <Match when={pick(at(), "namespace")} keyed>{(it) => <NamespacePage inventory={inventory} name={it.name} />}</Match>
              <Match when={pick(at(), "pod")} keyed>{(it) => <PodPage inventory={inventory} namespace={it.namespace} name={it.name} />}</Match>
            </Switch>
          </Show>
        </main>
      </div>
    </div>
  );
}

function pick<P extends string, T extends { page: string }>(at: T, page: P): Extract<T, { page: P }> | undefined {
  return at.page === page ? (at as Extract<T, { page: P }>) : undefined;
}
