/* From raw values to the texture that paints the brain, as nmri3d/scene/colors.py and texture.py define it.

   Convention. A component below the threshold, or without a value, is unpainted (alpha 0) and shows the grey folding.
   The pulse only darkens: at its crest a color is exactly the color bar's. Nothing here changes a value. A cortex of glass
   is clear where the values are weak.

   Left out: display ranges and color tables, which come from the server. */

(function () {
  "use strict";

  const PULSE_PERIOD = 1400; // ms
  const PULSE_DEPTH = 0.16; // share of brightness that the highest values lose at the trough
  const PULSE_FROM = 0.5; // share of the bar above which a component pulses

  /* Place of a value along the bar, clipped to 0..1 for display only; NaN stays NaN. */
  function fraction(value, range) {
    let place;
    if (range.scale === "log")
      place = value > 0 ? Math.log(value / range.vmin) / Math.log(range.vmax / range.vmin) : value <= 0 ? 0 : NaN;
    else place = (value - range.vmin) / (range.vmax - range.vmin);
    return place < 0 ? 0 : place > 1 ? 1 : place;
  }

  /* The value at a place along the bar; for a symmetric bar, the size that lies that far from its middle. */
  function valueAt(share, range) {
    if (range.scale === "log") return range.vmin * (range.vmax / range.vmin) ** share;
    if (range.scale === "symmetric") return range.vmax * share;
    return range.vmin + (range.vmax - range.vmin) * share;
  }

  /* How far from the quiet end a place is: what the threshold cuts and the pulse follows. */
  function strength(place, range) {
    return range.scale === "symmetric" ? Math.abs(2 * place - 1) : place;
  }

  function tableRow(place) {
    return Math.floor(place * 255 + 0.5) * 3;
  }

  function cssColor(palette, place) {
    const at = tableRow(place);
    return `rgb(${palette[at]},${palette[at + 1]},${palette[at + 2]})`;
  }

  /* {colors: uint8 [n, 4], strengths: float32 [n]} for raw values [n]. */
  function componentColors(values, range, palette, threshold) {
    const colors = new Uint8Array(values.length * 4);
    const strengths = new Float32Array(values.length);
    for (let row = 0; row < values.length; row += 1) {
      const place = fraction(values[row], range);
      if (Number.isNaN(place)) continue;
      strengths[row] = strength(place, range);
      if (threshold > 0 && strengths[row] < threshold) continue;
      const at = tableRow(place);
      colors[row * 4] = palette[at];
      colors[row * 4 + 1] = palette[at + 1];
      colors[row * 4 + 2] = palette[at + 2];
      colors[row * 4 + 3] = 255;
    }
    return { colors, strengths };
  }

  /* Brightness of each component at a moment of the pulse: 1 at the crest. */
  function pulseShades(strengths, time) {
    const wave = 0.5 - 0.5 * Math.cos((2 * Math.PI * time) / PULSE_PERIOD);
    return strengths.map((value) => 1 - PULSE_DEPTH * wave * Math.max(0, (value - PULSE_FROM) / (1 - PULSE_FROM)));
  }

  /* Write the texture, [height, width, channels] bytes, row 0 at v = 0; see nmri3d/scene/texture.py for the layout.

     shades: brightness of each component, or null. glass: strength of each component, or null for a solid cortex; rows of
     layout.solid are never glass, and only the weakest of them pale. */
  function writeTexture(target, channels, colors, shades, layout, glass) {
    const { width, height, sulcus_shade: shade, glass_opacity: opacity } = layout;
    const count = colors.length / 4;
    const slots = (height / 2) * width;
    const opaque = glass && layout.solid && layout.solid.length ? new Set(layout.solid) : null;
    for (let slot = 0; slot < slots; slot += 1) {
      const clear = glass && !(opaque && opaque.has(slot));
      const sulcus = clear ? layout.glass_sulcus : layout.underlay_sulcus;
      const gyrus = clear ? layout.glass_gyrus : layout.underlay_gyrus;
      const low = (2 * Math.floor(slot / width) * width + (slot % width)) * channels;
      const high = low + width * channels;
      let weight = glass && slot < count ? glass[slot] : 1;
      if (!clear) weight = Math.min(1, layout.solid_gain * weight);
      const alpha = slot < count ? (weight * colors[slot * 4 + 3]) / 255 : 0;
      const bright = shades && slot < count ? shades[slot] : 1;
      for (let channel = 0; channel < 3; channel += 1) {
        const color = slot < count ? colors[slot * 4 + channel] * alpha * bright : 0;
        target[low + channel] = Math.floor(sulcus[channel] * (1 - alpha) + color * shade + 0.5);
        target[high + channel] = Math.floor(gyrus[channel] * (1 - alpha) + color + 0.5);
      }
      const solid = clear ? Math.floor(255 * (opacity[0] + (opacity[1] - opacity[0]) * alpha) + 0.5) : 255;
      if (channels === 4) target[low + 3] = target[high + 3] = solid;
    }
  }

  /* Mix a color into a written texture: `weight` of it where a component's share is 1, less where it is less. */
  function mixTexture(target, channels, shares, weight, color, layout) {
    const { width } = layout;
    for (let slot = 0; slot < shares.length; slot += 1) {
      const part = weight * shares[slot];
      if (!part) continue;
      const low = (2 * Math.floor(slot / width) * width + (slot % width)) * channels;
      for (const at of [low, low + width * channels])
        for (let channel = 0; channel < 3; channel += 1)
          target[at + channel] = Math.floor(target[at + channel] * (1 - part) + color[channel] * part + 0.5);
    }
  }

  window.nmri3d.colors = { mixTexture, fraction, valueAt, strength, cssColor, componentColors, pulseShades, writeTexture };
})();
