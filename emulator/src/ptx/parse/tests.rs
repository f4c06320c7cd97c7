//! Tests of the parser on text; whole kernels are tested in the lowering.

use crate::ptx::ast::{Base, Operand, Space, Statement, Type, Value};
use crate::ptx::parse::parse;

const HEAD: &str = ".version 7.0\n.target sm_80\n.address_size 64\n";

fn error(body: &str) -> (u32, String) {
    let text = format!("{HEAD}{body}");
    let error = parse(&text).expect_err("the text is wrong");
    (error.line, error.message)
}

#[test]
fn a_kernel_with_everything() {
    let text = format!(
        "{HEAD}.extern .func (.param .b32 r) vprintf (.param .b64 a, .param .b64 b);\n\
         .const .align 4 .b8 table[8] = {{1, 2, 3}};\n\
         .global .u64 pointers[2] = {{table, generic(table)+4}};\n\
         .extern .shared .align 16 .b8 dynamic[];\n\
         .visible .entry k(.param .u64 .ptr .global .align 16 p, .param .align 8 .b8 s[24])\n\
         .maxntid 128, 2\n.minnctapersm 2\n{{\n\
         \t.reg .pred %p<3>;\n\t.reg .b32 %r<4>, x;\n\t.loc 1 2 3\n\
         \t.pragma \"nounroll\";\n\
         L1:\n\t@!%p1 bra.uni L1;\n\
         \tld.shared.v2.f32 {{%r1, _}}, [dynamic+-8];\n\
         \tshfl.sync.down.b32 %r1|%p2, %r2, 0f3F800000, -1, !%p1;\n\
         \t{{ call.uni (x), f, (x, 4); }}\n\
         ts: .branchtargets L1, L1;\n\tret;\n}}\n"
    );
    let module = parse(&text).unwrap();
    assert_eq!((module.version, module.target), ((7, 0), "sm_80"));
    assert_eq!(module.variables.len(), 3);
    assert_eq!(module.variables[0].size(), Some(8));
    assert_eq!(
        module.variables[1].init.as_ref().unwrap()[1],
        Value::Address {
            name: "table",
            offset: 4,
            generic: true
        }
    );
    assert_eq!(
        (module.variables[2].size(), module.variables[2].alignment()),
        (Some(0), 16)
    );
    assert!(module.functions[0].body.is_none());
    let kernel = &module.functions[1];
    assert_eq!(
        (kernel.max_threads, kernel.min_blocks),
        (Some([128, 2, 1]), Some(2))
    );
    assert_eq!(kernel.params[1].size(), Some(24));
    let body = kernel.body.as_ref().unwrap();
    let Statement::Registers(registers) = &body[1] else {
        panic!("{:?}", body[1])
    };
    assert_eq!(
        (registers.ty, &registers.names[..]),
        (Type::B32, &[("%r", Some(4)), ("x", None)][..])
    );
    let Statement::Instruction(load) = &body[4] else {
        panic!("{:?}", body[4])
    };
    assert_eq!(
        load.operands[1],
        Operand::Address(Base::Name("dynamic"), -8)
    );
    let Statement::Instruction(shuffle) = &body[5] else {
        panic!("{:?}", body[5])
    };
    assert_eq!(shuffle.operands[0], Operand::Pair("%r1", "%p2"));
    assert_eq!(shuffle.operands[3], Operand::Value(Value::Int(u64::MAX)));
    assert_eq!(shuffle.operands[4], Operand::Not("%p1"));
    assert!(
        matches!(&body[9], Statement::Label("ts", _)),
        "{:?}",
        body[9]
    );
    assert!(matches!(&body[10], Statement::Targets(targets, _) if targets.len() == 2));
}

#[test]
fn initialisers_fill_rows() {
    let text = format!("{HEAD}.global .u32 a[][3] = {{{{1}}, {{2, 3}}, {{4}}}}, b = -1;");
    let module = parse(&text).unwrap();
    let int = Value::Int;
    let values = [
        int(1),
        Value::Zeros(2),
        int(2),
        int(3),
        Value::Zeros(1),
        int(4),
    ];
    assert_eq!(module.variables[0].init.as_deref(), Some(&values[..]));
    assert_eq!(module.variables[0].dims, [3, 3]);
    assert_eq!(
        module.variables[1].init.as_deref(),
        Some(&[Value::Int(u64::MAX)][..])
    );
    assert_eq!(module.variables[1].space, Space::Global);
}

#[test]
fn errors_name_the_line_and_the_thing() {
    assert_eq!(
        error(".texref t;"),
        (4, "directive `.texref` is not supported here".into())
    );
    assert_eq!(error("\n.global .u32 x").0, 5);
    assert_eq!(error(".visible .entry k()\n{\n.reg .b33 %r<2>;\n}").0, 6);
    assert_eq!(
        error(".visible .entry k()\n{\nmov.u32 %r1 %r2;\n}"),
        (6, "expected `,`, found `%r2`".into())
    );
    assert_eq!(
        error(".visible .entry k()\n{\nret;").1,
        "the body opened in line 5 has no end"
    );
    assert_eq!(
        error(".visible .entry k() .cluster_dim 2 {}").1,
        "directive `.cluster_dim` of a function is not supported"
    );
    assert_eq!(parse("").unwrap_err().line, 1);
    assert_eq!(
        parse(".version 7.0\n.target sm_80\n.address_size 32")
            .unwrap_err()
            .line,
        3
    );
    assert_eq!(
        error(".global .align 3 .b8 x;").1,
        "alignment 3 is not a power of two up to 65536"
    );
    assert_eq!(
        error(".global .b8 x[2] = {1,2,3};").1,
        "`x` has more values than elements"
    );
    assert_eq!(
        error(".global .b64 x[4294967296][4294967296];").1,
        "`x` is larger than 2^40 bytes"
    );
}
