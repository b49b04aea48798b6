/* wasd/protocol.h - the messages that travel in the frames of wasd/wire.h. Members not listed are ignored by the receiver;
 * a missing or ill-typed listed member is a protocol error (the daemon kills such an engine process, the engine exits 3).
 * `re` in an answer is the seq of the frame that it answers. Errors everywhere:
 *     {"type":"error","re":SEQ,"status":"einval","code":"bad_image","pointer":"/images/0","message":"..."}
 *
 * ---- every engine process ------------------------------------------------------------------------------------
 * engine -> daemon   {"type":"hello","role":"train|infer|ingest|convert|profile","pid":N,"version":WASD_VERSION,"build":"...",
 *                     "fingerprint":{"isa":"...","openblas":"...","coretype":"...","threads":N,...}}      first frame
 *                    {"type":"heartbeat"}                                                                   every second
 *                    {"type":"log","level":"info|warn|error","text":"one line"}
 * The engine's end is descriptor 3. EOF on it ends the engine at once. stderr is a pipe or file of the daemon's: only for crashes.
 *
 * ---- wasd-engine train: one job attempt -----------------------------------------------------------------------
 * daemon -> engine   {"type":"start","job":ID,"attempt":N,"spec":{canonical job spec, all defaults written out},
 *                     "dataset":PATH of the .wds file,"threads":N,"nice":N}
 *                       with a sealed memfd when resuming ("resume":{"bytes","sha256","epoch","step"}) or when
 *                       "init_from" weights are given ("init":{"bytes","sha256"}); the file is a checkpoint as below
 *                    {"type":"cancel"}                       stop within one mini-batch, send a checkpoint, then done
 *                    {"type":"ack","seq":N}                  metrics / checkpoint frame N is durable
 * engine -> daemon   {"type":"started","params":N,"macs":N,"epochs":N,"steps_per_epoch":N,"epoch":first,"classes":[...],"was":object|false}
 *                    {"type":"progress","phase":one of WASD_TRAIN_PHASES,"phase_done":N,"phase_total":N,"epoch":E,"epochs":N,"step":S,"steps":N,
 *                     "img_per_s":X,"eta_s":X,"loss":X}      at most 4 a second, and whenever the phase changes; also before "started". All but phase may be
 *                       absent, which leaves it as it was (phase_done and phase_total: unknown). step of steps: training batches of the epoch
 *                    {"type":"losses","points":[[GLOBAL step,E,mean loss of the batches since the point before],...]}
 *                       in order, at most WASD_LOSSES_MAX; the first at once, then about one a second; always before the metrics and checkpoints that follow
 *                    {"type":"metrics","epoch":E,"step":GLOBAL,"values":{"train_loss":X|null,...},"nonfinite":{"train_loss":"nan"}}
 *                       names as in web/docs/api.md#metrics plus stall_s, train_conv_s, bn_s, ... ; acked
 *                    {"type":"warning","code":CODE,"epoch":E,"message":TEXT}      of the run itself (wasd/train.h); one that goes on comes every epoch
 *                    {"type":"checkpoint","epoch":E,"step":GLOBAL,"bytes":N,"sha256":HEX,"reason":"epoch|cancel|final",
 *                     "metrics":{...},"info":{"arch","classes":[...],"input":[c,h,w],"was":...,"draw":[...],"macs":{"aom":N,"dom":N}}}
 *                       + sealed memfd; acked. The engine keeps going while the daemon stores it, at most one un-acked.
 *                    {"type":"done","reason":"done|early_stopped|cancelled","epoch":E}        then exit 0
 *                    {"type":"failed","reason":"error|nan_loss|bad_data|oom","status":"...","message":"..."}   then exit 0
 *   Metrics of an epoch are sent before its checkpoint. A resumed attempt starts at the epoch after its checkpoint (or inside it
 *   when the checkpoint was taken mid-epoch) and sends the same numbers again for nothing: (job, epoch, name) is the key.
 *
 * ---- wasd-engine infer: all deployments -------------------------------------------------------------------------
 * daemon -> engine   {"type":"load","bundle":ID of the checkpoint,"bytes","sha256","threads":N} + memfd
 *                       -> {"type":"loaded","re","bundle","arch","input":[c,h,w],"fit","background","orientation","classes":[...],"max_batch":N,
 *                           "modes":{"aom":{"macs","bytes"},"dom":{"macs","bytes"}}}          dom absent for was:false
 *                    {"type":"unload","bundle":ID}    -> {"type":"unloaded","re"}
 *                    {"type":"profile","bundle":ID,"name":N,"bytes","sha256" of the checkpoint,"profile_bytes":N of the overlay} + memfd: the one, then the other
 *                       -> {"type":"profiled","re","bundle","name","macs","bytes"}     the bundle has the mode "dom:NAME" now; one of that name is replaced
 *                    {"type":"unprofile","bundle":ID,"name":N} -> {"type":"unprofiled","re"}
 *                    {"type":"classify","bundle":ID,"mode":"aom|dom|dom:NAME","k":N,"sizes":[bytes of each encoded image]} + bin or memfd ("bytes")
 *                       -> {"type":"classified","re","results":[{"top":[{"index","label","p"}]}],"macs":N,
 *                           "timing_us":{"decode","queue","compute"}}
 *                          an undecodable image is an error, code bad_image, pointer "/images/I"; nothing is answered for the others
 *                    {"type":"infer","bundle":ID,"mode":...,"n":N} + bin or memfd: n*c*h*w float32 LE (NCHW, already normalised)
 *                       -> {"type":"inferred","re","n","classes":C,"bytes":4*n*C,"macs":N,"timing_us":{...}} + n*C float32 logits: bin, or above 1 MiB a memfd
 *                    {"type":"logits","bundle":ID,"mode":...,"sizes":[...]} + images -> {"type":"inferred",...} + logits of decoded images
 *   mode and generation live in the daemon: a request names its bundle and mode, so a switch is a pointer swap there.
 *
 * ---- wasd-engine ingest: one upload -------------------------------------------------------------------------------
 * daemon -> engine   {"type":"ingest","name":N,"files":[{"path","name"}],"out":PATH,"options":{},"limits":{"max_bytes":N,"max_images":N}}
 *                       options, all of which may be absent: "size":N, "on_bad":"skip", "test_fraction":X, "split_seed":N, "names":"CP437",
 *                       and "fit", "background", "orientation" where they are not the default
 *                    {"type":"synthetic","kind":"glyphs","train":N,"test":N,"seed":N,"out":PATH}
 *                    {"type":"preview","path":PATH,"split":"train|test|val","index":N} -> {"type":"preview","re","label":N,"class":"..."} + bin: PNG
 *                    {"type":"cancel"}
 * engine -> daemon   {"type":"progress","images":N,"bytes":N}
 *                    {"type":"done","re","format","shape":[c,h,w],"classes":[...],"train":N,"test":N[,"val":N],"digest","bytes":N,"mean":[...],"std":[...],"fit","background","orientation",
 *                     "remarks":[{"code","count":N,"message","examples":[names, at most 5]}], at most 32; "skipped":[{"file","detail"}], at most 100}
 *                    {"type":"failed","re","status","pointer":"file or archive entry","message"[,"errors":[{"file","detail"}], at most 100,"count":N of all]}
 *
 * ---- wasd-engine convert: checkpoints and the files of other programs ----------------------------------------------
 * daemon -> engine   {"type":"export","format":"safetensors|onnx","mode":"aom|dom|dom:NAME","bytes","sha256","out":PATH} + memfd of the checkpoint;
 *                       with a profile also "profile_bytes":N, its overlay follows the checkpoint in the file
 *                       -> {"type":"exported","re","bytes","sha256"}       the file is at PATH, whole; nothing is there after an error
 *                    {"type":"import","file":PATH,"out":PATH,"to_serve":bool[,"model":{},"classes":[names],"input":[c,h,w]]}    members as in wasd/convert.h
 *                       -> {"type":"imported","re","bytes","sha256","info":{}}        a checkpoint is at "out"
 *
 * ---- wasd-engine profile: one search (wasd/profile.h) -----------------------------------------------------------------
 * daemon -> engine   {"type":"search","bytes","sha256","dataset":PATH of the .wds file,"threads":N,"nice":N,"request":{}} + memfd of the checkpoint
 *                    {"type":"cancel"}
 * engine -> daemon   {"type":"progress","done":N,"of":N}                            draws judged; at most 4 a second
 *                    {"type":"profile","bytes","sha256","info":{}} + sealed memfd of the overlay; then exit 0
 *                    {"type":"failed","status","pointer":member of the request|null,"message"}; then exit 0
 *
 * ---- a checkpoint -----------------------------------------------------------------------------------------------------
 * One safetensors file, self-contained. Tensors: every parameter by its name (F32); <bn>.running_mean/.running_var = AOM statistics;
 * dom.<bn>.running_mean/...; train.<bn>.running_mean/...; optim.<state>.<param> (e.g. optim.momentum.conv.weight); state.rng.was etc. (U64).
 * Where strategies (core's weights/strategy.h) form the weights, a parameter's own name has what passes compute with; weights.master.<param> is what is
 * trained, weights.<strategy>.<name> a strategy's state.
 * __metadata__: "format":"wasd-checkpoint-1", "spec" (canonical job spec), "arch","classes","input" (JSON), "draw" (JSON of the recorded DOM
 * draw, or "null"), "was", "prepare" (JSON: fit, background, orientation of the training data's
 * pictures, absent where they were never recorded), "progress" (JSON: epoch, step, next batch, best so far, early-stop counters, lr schedule position), "fingerprint", "dataset_digest".
 */
#ifndef WASD_PROTOCOL_H
#define WASD_PROTOCOL_H

#define WASD_HEARTBEAT_MS 1000
/* What a training process is at, by name, in the order of enum wasd_train_phase. */
#define WASD_TRAIN_PHASES "loading data", "measuring algorithms", "training", "measuring statistics", "evaluating", "saving"
#define WASD_LOSSES_MAX 256
#define WASD_ENGINE_EXIT_PROTOCOL 3

#endif
