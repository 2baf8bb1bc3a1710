// The header: product, theme, user.
import { session, signOut } from "../api/client";
import { forget } from "../api/metrics";
import { go } from "../router";
import { theme, toggleTheme } from "../theme";
import { Mark } from "./icons";

export function Header() {
  const leave = () => {
    forget();
    signOut();
    go({ page: "supervisor" });
  };
  return (
    <header class="header pv-header">
      <div class="branding">
        <a href="/console/" onClick={(event) => { event.preventDefault(); go({ page: "supervisor" }); }}>
          <Mark /><span class="title">Podvisor</span>
        </a>
      </div>
      <div class="header-actions">
        <button type="button" class="pv-header-button" onClick={toggleTheme} id="theme"
          title={theme() === "dark" ? "Use the light theme" : "Use the dark theme"}>
          <svg viewBox="0 0 18 18" fill="none" stroke="currentColor" stroke-width="1.4" stroke-linecap="round" aria-hidden="true">
            {theme() === "dark"
              ? <><circle cx="9" cy="9" r="3.2" /><path d="M9 2v1.6M9 14.4V16M2 9h1.6M14.4 9H16M4 4l1.2 1.2M12.8 12.8L14 14M4 14l1.2-1.2M12.8 5.2L14 4" /></>
              : <path d="M14.5 11A6.2 6.2 0 0 1 7 3.5 6.2 6.2 0 1 0 14.5 11z" stroke-linejoin="round" />}
          </svg>
          {theme() === "dark" ? "Light" : "Dark"}
        </button>
        <span class="pv-user" id="user" title="Signed in as">
          <svg viewBox="0 0 18 18" fill="none" stroke="currentColor" stroke-width="1.4" aria-hidden="true">
            <circle cx="9" cy="6" r="3" /><path d="M3 15.5c.6-3.2 2.9-5 6-5s5.4 1.8 6 5" stroke-linecap="round" />
          </svg>
          {session()?.username}
        </span>
        <button type="button" class="pv-header-button" id="sign-out" onClick={leave}>Sign out</button>
      </div>
    </header>
  );
}
