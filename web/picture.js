// picture.js - draws an image file as the network sees it: at the size of its input, squeezed or cropped like its training images,
// over the same background, and grey if it has one channel. A canvas needs no URL, so the content security policy can stay strict.

// The last argument is a deployment's description of its pictures: input [channels, height, width], fit, background "rrggbb", orientation.
export async function draw(canvas, blob, { input: [channels, height, width] = [3, 64, 64], fit = 'squeeze', background = 'ffffff', orientation = 'upright' }) {
  const bitmap = await createImageBitmap(blob, { imageOrientation: orientation === 'keep' ? 'none' : 'from-image' }), { width: w, height: h } = bitmap;
  const scale = Math.min(w / width, h / height), [sw, sh] = fit === 'crop' ? [scale * width, scale * height] : [w, h];
  Object.assign(canvas, { width, height });
  const context = canvas.getContext('2d');
  context.imageSmoothingQuality = 'high';
  context.fillStyle = `#${background}`;
  context.fillRect(0, 0, width, height);
  if (channels === 1) context.filter = 'grayscale(1)';
  context.drawImage(bitmap, (w - sw) / 2, (h - sh) / 2, sw, sh, 0, 0, width, height);
  bitmap.close();
}
