// The header: product, theme, user.
import { session, signOut } from "../api/client";
import { go } from "../router";
import { theme, toggleTheme } from "../theme";

export function Header() {
  return (
    <header class="header header-6">
      <div class="branding">
        <a href="/console/" onClick={(event) => { event.preventDefault(); go({ page: "supervisor" }); }}>
          <span class="pv-mark" aria-hidden="true" />
          <span class="title">Podvisor</span>
        </a>
      </div>
      <div class="header-actions">
        <button type="button" class="pv-header-button" onClick={toggleTheme} id="theme"
          title={theme() === "dark" ? "Use the light theme" : "Use the dark theme"}>
          {theme() === "dark" ? "☀ Light" : "☾ Dark"}
        </button>
        <span class="pv-user" title="Signed in as">{session()?.username}</span>
        <button type="button" class="pv-header-button" id="sign-out" onClick={signOut}>Sign out</button>
      </div>
    </header>
  );
}
