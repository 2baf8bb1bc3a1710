// Builds the console for the path /console; `npm run dev` proxies the API of a Supervisor on loopback.
import { defineConfig } from "vitest/config";
import type { Plugin } from "vite";
import solid from "vite-plugin-solid";

const supervisor = process.env.PODVISOR_URL ?? "https://127.0.0.1:6443";
const proxied = ["/api", "/apis", "/wcp", "/podvisor", "/version"];

/** Clarity's stylesheet carries its font inside; ours comes as files, so those copies (and a looser policy) go. */
const fontsAsFiles: Plugin = {
  name: "fonts-as-files",
  enforce: "pre",
  transform: (code, id) =>
    id.includes("@clr/ui/clr-ui.min.css") ? code.replace(/@font-face\s*\{[^}]*url\(["']?data:[^}]*\}/g, "") : undefined,
};

export default defineConfig({
  base: "/console/",
  plugins: [fontsAsFiles, solid()],
  // The model is plain code: no browser is simulated for its tests.
  test: { environment: "node" },
  build: { target: "es2022", sourcemap: false, chunkSizeWarningLimit: 1500 },
  server: {
    proxy: Object.fromEntries(proxied.map((path) => [path, { target: supervisor, secure: false }])),
  },
});
