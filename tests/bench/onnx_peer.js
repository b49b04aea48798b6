// ONNX Runtime's side of tests/bench/peers.py: times one model in a process of its own and prints one JSON object.
//
//     node onnx_peer.js DIR MODEL BATCH THREADS SECONDS        DIR holds node_modules/onnxruntime-node
//
// The session has what ONNX Runtime recommends for speed: all graph optimizations (its own NCHWc layout among them), one operator at a time
// on all threads, memory reused between runs. Every run gets the same input and hands back the logits as JavaScript sees them.
'use strict';
const ort = require(require('path').join(process.argv[2], 'node_modules', 'onnxruntime-node'));
const [model, batch, threads, seconds] = [process.argv[3], ...process.argv.slice(4).map(Number)];

async function main() {
	const session = await ort.InferenceSession.create(model, {
		executionProviders: ['cpu'], graphOptimizationLevel: 'all', executionMode: 'sequential',
		intraOpNumThreads: threads, interOpNumThreads: 1, enableCpuMemArena: true, enableMemPattern: true,
	});
	const x = Float32Array.from({length: batch * 3 * 32 * 32}, () => 2 * Math.random() - 1);
	const feed = {[session.inputNames[0]]: new ort.Tensor('float32', x, [batch, 3, 32, 32])};
	const now = () => Number(process.hrtime.bigint()) * 1e-6;
	let begin = now(), logits;
	for (let i = 0; i < 3 || now() - begin < 250 * seconds; i++)
		logits = (await session.run(feed))[session.outputNames[0]];
	if (!logits.data.every(Number.isFinite) || logits.dims[0] !== batch)
		throw new Error(`logits of shape ${logits.dims}, or not finite`);
	const cpu = process.cpuUsage();
	let runs = 0, best = Infinity, last = begin = now();
	do {
		await session.run(feed);
		const t = now();
		best = Math.min(best, t - last);
		last = t;
		runs++;
	} while (runs < 3 || last - begin < 1000 * seconds);
	const used = process.cpuUsage(cpu);
	console.log(JSON.stringify({
		images_per_s: batch * runs * 1e3 / (last - begin), ms_best_step: best, cpu_ms_per_step: (used.user + used.system) * 1e-3 / runs, steps: runs,
		version: ort.env.versions.node,
	}));
}
main().catch(e => { console.error(e.message); process.exit(1); });
