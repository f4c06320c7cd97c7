#include <cassert>
#include <cstdio>
#include <cuda_fp16.h>
#include <cuda_bf16.h>
struct A{const float*x;float*y;int n;float s;int tab[6];};
__constant__ float cst[4]={1,2,3,4};
__device__ int counter=7;
__device__ float* gp;
extern "C" __global__ void __launch_bounds__(128,2) k1(const __grid_constant__ A a){
 __shared__ float s[128]; extern __shared__ float4 dyn[];
 int i=blockIdx.x*blockDim.x+threadIdx.x;
 s[threadIdx.x]= i<a.n? a.x[i]*a.s+cst[i&3]:0; __syncthreads();
 for(int o=64;o>0;o>>=1){ if(threadIdx.x<o) s[threadIdx.x]+=s[threadIdx.x+o]; __syncthreads();}
 if(threadIdx.x==0) {a.y[blockIdx.x]=s[0]+a.tab[i%6]+sqrtf(s[1])/s[2]; atomicAdd(&counter,1);}
 dyn[threadIdx.x]=make_float4(1,2,3,4);
}
extern "C" __global__ void k2(const __half*x,__half*y,const __nv_bfloat16*u,__nv_bfloat16*v,int n,
  const uint4*q, uint4*r){ int i=blockIdx.x*blockDim.x+threadIdx.x; if(i>=n)return;
 y[i]=__hmax(x[i],y[i])+__float2half(2.5f); v[i]=__hadd(u[i],v[i]);
 __half2 h=__halves2half2(x[i],y[i]); h=__hfma2(h,h,h); y[i+1]=__low2half(h);
 __nv_bfloat162 b=__floats2bfloat162_rn(1.f*i,2.f); v[i+2]=b.x;
 r[i]=__ldg(q+i); float f=__shfl_xor_sync(~0u,(float)y[i],3); y[i+8]=f;
 assert(i<100); double d=i; y[i+9]=sin(d)*exp2f(f); 
 switch(i){case 0:v[1]=v[2];break;case 1:v[3]=v[5];break;case 2:y[1]=y[5];break;
  case 3:y[8]=y[6];break;case 4:y[66]=y[77];break;case 5:y[5]=1;}
 float loc[10]; for(int k=0;k<10;k++) loc[k]=(float)x[k*3]; y[0]=loc[i%10];
}
__device__ __noinline__ float foo(float a, int*b){ *b+=1; return a*a+*b; }
extern "C" __global__ void k3(float*x,int*p, unsigned long long *m){
 printf("hi %d %f\n",p[0],x[0]); x[0]=foo(x[1],p); x[2]=foo(x[3],p+1);
 *m=__umul64hi(*m,m[1])+m[2]/m[3]; *gp=cosf(x[7]); }
