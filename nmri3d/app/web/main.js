/* The page's scripts, in the order in which they build on one another; trame loads this file as a module. */

import "./store.js"; // makes window.nmri3d
import "./colors.js";
import "./geometry.js";
import "./painter.js";
import "./brain_view.js";
import "./panels.js";
import "./picture.js";
import "./feed.js";
