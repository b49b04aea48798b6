// picture.js - draws an image file as the network sees it: at the size of its input, squeezed or cropped like its training images
// (several crops stand side by side), over the same background, and grey if it has one channel. A canvas needs no URL, so the content
// security policy can stay strict.

// The last argument is a deployment's description of its pictures: input [channels, height, width], fit, background "rrggbb", orientation.
export async function draw(canvas, blob, { input: [channels, height, width] = [3, 64, 64], fit = 'squeeze', background = 'ffffff', orientation = 'upright' }) {
  const bitmap = await createImageBitmap(blob, { imageOrientation: orientation === 'keep' ? 'none' : 'from-image' }), { width: w, height: h } = bitmap;
  const scale = Math.min(w / width, h / height), [sw, sh] = fit === 'squeeze' ? [w, h] : [scale * width, scale * height];
  const places = fit === 'crops' && Math.max(w - sw, h - sh) > 1 ? [0, 0.5, 1] : [0.5], step = width + Math.ceil(width / 32);
  Object.assign(canvas, { width: (places.length - 1) * step + width, height });
  const context = canvas.getContext('2d');
  context.imageSmoothingQuality = 'high';
  context.fillStyle = `#${background}`;
  for (const i of places.keys()) context.fillRect(i * step, 0, width, height);
  if (channels === 1) context.filter = 'grayscale(1)';
  places.forEach((at, i) => context.drawImage(bitmap, (w - sw) * at, (h - sh) * at, sw, sh, i * step, 0, width, height));
  bitmap.close();
}
