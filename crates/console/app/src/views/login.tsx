// Sign-in, with the same users as `podvisor login`.
import { Show, createSignal } from "solid-js";
import { signIn } from "../api/client";

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
    <div class="login-wrapper pv-login">
      <form class="login" onSubmit={submit}>
        <section class="title">
          <span class="pv-mark" aria-hidden="true" />
          <h3 class="welcome">Welcome to</h3>
          Podvisor
          <h5 class="hint">Sign in with your Supervisor account</h5>
        </section>
        <div class="login-group">
          <label class="pv-field" for="username">
            User name
            <input class="clr-input" id="username" autocomplete="username" placeholder="name@podvisor.local" required
              value={username()} onInput={(event) => setUsername(event.currentTarget.value)} />
          </label>
          <label class="pv-field" for="password">
            Password
            <input class="clr-input" id="password" type="password" autocomplete="current-password" required
              value={password()} onInput={(event) => setPassword(event.currentTarget.value)} />
          </label>
          <Show when={error()}><div class="error active" role="alert">{error()}</div></Show>
          <button type="submit" class="btn btn-primary" disabled={busy()}>{busy() ? "Signing in…" : "Sign in"}</button>
        </div>
      </form>
    </div>
  );
}
