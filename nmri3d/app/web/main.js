/* The page's scripts, in the order in which they build on one another; trame loads this file as a module. */

import "./store.js"; // makes window.nmri3d
import "./arrivals.js";
import "./shown.js";
import "./actions.js";
import "./experiments.js";
import "./colors.js";
import "./geometry.js";
import "./tubes.js";
import "./tracts.js";
import "./tract_painter.js";
import "./painter.js";
import "./brain_view.js";
import "./panels.js";
import "./heatmap.js";
import "./comparison.js";
import "./paths.js";
import "./heads.js";
import "./lens.js";
import "./runs.js";
import "./findings.js";
import "./picture.js";
import "./feed.js";
