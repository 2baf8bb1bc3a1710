// Sign-in, with the same users as `podvisor login`.
import { Show, createSignal } from "solid-js";
import { farewell, signIn } from "../api/client";
import { Mark } from "./icons";

export function Login() {
  const [username, setUsername] = createSignal("");
  const [password, setPassword] = createSignal("");
  const [error, setError] = createSignal("");
  const [busy, setBusy] = createSignal(false);
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    setBusy(true);
    setError("");
    try {
      await signIn(username(), password());
    } catch (problem) {
      setError(problem instanceof Error ? problem.message : String(problem));
    } finally {
      setBusy(false);
    }
  };
  return (
    <div class="pv-login">
      <form class="pv-login-box" onSubmit={submit} aria-label="Sign in">
        <div class="pv-login-brand"><Mark large /><span>Podvisor</span></div>
        <p class="pv-quiet">Sign in with your Supervisor account.</p>
        <Show when={!error() && farewell()}>{(text) => <p class="pv-login-note" role="status">{text()}</p>}</Show>
        <label class="pv-field" for="username">
          User name
          <input class="clr-input" id="username" autocomplete="username" placeholder="name@podvisor.local" required autofocus
            value={username()} onInput={(event) => setUsername(event.currentTarget.value)} />
        </label>
        <label class="pv-field" for="password">
          Password
          <input class="clr-input" id="password" type="password" autocomplete="current-password" required
            value={password()} onInput={(event) => setPassword(event.currentTarget.value)} />
        </label>
        <Show when={error()}>{(text) => <p class="pv-login-error" role="alert">{text()}</p>}</Show>
        <button type="submit" class="btn btn-primary btn-block" disabled={busy()}>{busy() ? "Signing in…" : "Sign in"}</button>
      </form>
      <p class="pv-login-foot">Kubernetes Pods, each a virtual machine of its own.</p>
    </div>
  );
}
