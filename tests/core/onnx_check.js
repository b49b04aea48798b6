// Runs ONNX files in ONNX Runtime and compares the logits with those that are expected: prints the largest difference of each, as a share of its
// largest logit, and ends with 1 when one is over the tolerance.
//
//     node onnx_check.js ORT DIR TOLERANCE       ORT holds node_modules/onnxruntime-node; DIR holds NAME.onnx and NAME.json:
//                                                {"shape":[c,h,w],"classes":C,"x":[numbers of n images],"logits":[n*C numbers]}
'use strict';
const fs = require('fs'), path = require('path');
const [where, dir, tolerance] = process.argv.slice(2);
const ort = require(path.join(where, 'node_modules', 'onnxruntime-node'));

async function check(name) {
	const want = JSON.parse(fs.readFileSync(path.join(dir, name + '.json')));
	const session = await ort.InferenceSession.create(path.join(dir, name + '.onnx'), {intraOpNumThreads: 1, interOpNumThreads: 1});
	const n = want.x.length / want.shape.reduce((a, b) => a * b);
	let worst = 0;
	const largest = Math.max(...want.logits.map(Math.abs));
	for (const count of [n, 1]) {                  // the batch is dynamic
		const x = Float32Array.from(want.x.slice(0, want.x.length / n * count));
		const got = (await session.run({input: new ort.Tensor('float32', x, [count, ...want.shape])})).logits;
		if (got.dims.join() !== `${count},${want.classes}`)
			throw new Error(`${name}: logits of shape ${got.dims}`);
		got.data.forEach((v, i) => { worst = Math.max(worst, Math.abs(v - want.logits[i]) / largest); });
	}
	console.log(`# ONNX Runtime, ${name}: ${worst.toExponential(1)}`);
	return worst <= tolerance;                     // false also for NaN
}

(async () => {
	let good = true;
	for (const file of fs.readdirSync(dir).filter(f => f.endsWith('.onnx')).sort())
		good = await check(file.slice(0, -5)) && good;
	process.exit(good ? 0 : 1);
})().catch(e => { console.log('# ' + e.message); process.exit(1); });
