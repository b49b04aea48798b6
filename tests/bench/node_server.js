// A peer of tests/bench/serving_peers.py: a network behind node's http server and ONNX Runtime. The body is binary, and the session runs on a
// thread of libuv's pool, so the event loop never computes. The request is the binary form of the Open Inference Protocol (see fastapi_server.py).
//
//     UV_THREADPOOL_SIZE=1 node node_server.js DIR MODEL INTRA C,H,W        DIR holds node_modules/onnxruntime-node; prints its address
'use strict';
const http = require('http');
const ort = require(require('path').join(process.argv[2], 'node_modules', 'onnxruntime-node'));
const [model, intra, shape] = [process.argv[3], Number(process.argv[4]), process.argv[5].split(',').map(Number)];
const size = shape.reduce((a, b) => a * b);

async function infer(session, body, skip) {
	const x = new Float32Array(body.buffer.slice(body.byteOffset + skip, body.byteOffset + body.length));
	const out = await session.run({[session.inputNames[0]]: new ort.Tensor('float32', x, [x.length / size, ...shape])});
	const y = out[session.outputNames[0]].data;
	return Buffer.from(y.buffer, y.byteOffset, y.byteLength);
}

async function main() {
	const session = await ort.InferenceSession.create(model, {
		executionProviders: ['cpu'], graphOptimizationLevel: 'all', executionMode: 'sequential', intraOpNumThreads: intra, interOpNumThreads: 1,
	});
	const answer = (res, status, type, bytes) => res.writeHead(status, {'Content-Type': type, 'Content-Length': bytes.length}).end(bytes);
	const server = http.createServer((req, res) => {
		if (req.method === 'GET')
			return answer(res, 200, 'application/json', Buffer.from(JSON.stringify({inputs: [{name: 'input', datatype: 'FP32', shape: [-1, ...shape]}]})));
		const pieces = [];
		req.on('data', piece => pieces.push(piece)).on('end', () => {
			infer(session, Buffer.concat(pieces), Number(req.headers['inference-header-content-length']))
				.then(y => answer(res, 200, 'application/octet-stream', y), e => answer(res, 500, 'text/plain', Buffer.from(e.message)));
		});
	});
	server.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`));
}
main().catch(e => { console.error(e.message); process.exit(1); });
