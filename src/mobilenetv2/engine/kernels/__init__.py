"""The emitters: one function of generated code per fused step, written in the words of `engine.ir`."""
