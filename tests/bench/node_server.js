// A peer of tests/bench/serving_peers.py: a network behind node's http server and ONNX Runtime, with a binary body. The package computes on the
// thread that calls it, so PROCESSES of a cluster share the port, each with INTRA threads. The request is the binary form of the Open Inference
// Protocol (see fastapi_server.py).
//
//     node node_server.js DIR MODEL INTRA PROCESSES C,H,W        DIR holds node_modules/onnxruntime-node; prints its address
'use strict';
const cluster = require('cluster'), http = require('http');
const [dir, model] = process.argv.slice(2), [intra, processes] = process.argv.slice(4, 6).map(Number), shape = process.argv[6].split(',').map(Number);
const size = shape.reduce((a, b) => a * b);

async function infer(ort, session, body, skip) {
	const x = new Float32Array(body.buffer.slice(body.byteOffset + skip, body.byteOffset + body.length));
	const out = await session.run({[session.inputNames[0]]: new ort.Tensor('float32', x, [x.length / size, ...shape])});
	const y = out[session.outputNames[0]].data;
	return Buffer.from(y.buffer, y.byteOffset, y.byteLength);
}

async function serve() {
	const ort = require(require('path').join(dir, 'node_modules', 'onnxruntime-node'));
	const session = await ort.InferenceSession.create(model, {
		executionProviders: ['cpu'], graphOptimizationLevel: 'all', executionMode: 'sequential', intraOpNumThreads: intra, interOpNumThreads: 1,
	});
	const answer = (res, status, type, bytes) => res.writeHead(status, {'Content-Type': type, 'Content-Length': bytes.length}).end(bytes);
	const server = http.createServer((req, res) => {
		if (req.method === 'GET')
			return answer(res, 200, 'application/json', Buffer.from(JSON.stringify({inputs: [{name: 'input', datatype: 'FP32', shape: [-1, ...shape]}]})));
		const pieces = [];
		req.on('data', piece => pieces.push(piece)).on('end', () => {
			infer(ort, session, Buffer.concat(pieces), Number(req.headers['inference-header-content-length']))
				.then(y => answer(res, 200, 'application/octet-stream', y), e => answer(res, 500, 'text/plain', Buffer.from(e.message)));
		});
	});
	server.listen(0, '127.0.0.1');
}

if (cluster.isPrimary) {
	let waiting = processes;
	cluster.on('listening', (worker, address) => --waiting || console.log(`http://127.0.0.1:${address.port}`));
	cluster.on('exit', () => process.exit(1));
	for (let i = 0; i < processes; i++)
		cluster.fork();
} else {
	serve().catch(e => { console.error(e.message); process.exit(1); });
}
