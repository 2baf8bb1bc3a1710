// The entry: styles, then the app.
import "@cds/city/css/bundles/default.min.css";
import "@clr/ui/clr-ui.min.css";
import "uplot/dist/uPlot.min.css";
import "./style.css";
import { render } from "solid-js/web";
import { App } from "./app";

const root = document.getElementById("root");
if (root) render(() => <App />, root);
